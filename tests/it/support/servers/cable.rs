//! A network cable that can be pulled: the machine at its other end is silent from then on, its
//! kernel included.

use std::fs::File;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network of its own with one cable to this machine, and a port here from which connections go
/// through it. Gone when dropped.
///
/// A connection's far half is of the other network, so that the server sees a machine that vanishes
/// when the cable is pulled. The near half stays as it is: the client sees a server that says
/// nothing more.
pub(crate) struct Cable {
    name: String,
    /// Of this machine, at this end.
    pub(crate) here: String,
}

impl Cable {
    /// `ip` creates the second network, which needs root. Returns the reason where that fails.
    pub(crate) fn lay() -> Result<Self, String> {
        // One of 16,384 networks of two addresses, of a range that is reserved for tests of
        // networks.
        let number = std::process::id() % 0x4000;
        let address = |host| format!("198.18.{}.{}", number >> 6, (number & 0x3f) * 4 + host);
        let name = format!("doorbell{number}");
        let (here, there) = (address(1), address(2));
        let cable = Self { name, here };
        let Self { name, here } = &cable;
        ip(&["netns", "add", name])?;
        ip(&[
            "link", "add", name, "type", "veth", "peer", "name", "far", "netns", name,
        ])?;
        ip(&["addr", "add", &format!("{here}/30"), "dev", name])?;
        ip(&["link", "set", name, "up"])?;
        ip(&[
            "-n",
            name,
            "addr",
            "add",
            &format!("{there}/30"),
            "dev",
            "far",
        ])?;
        ip(&["-n", name, "link", "set", "far", "up"])?;
        Ok(cable)
    }

    /// Opens a port on 127.0.0.1 that leads through the cable to a port of this machine.
    pub(crate) fn to(&self, port: u16) -> u16 {
        let near = TcpListener::bind("127.0.0.1:0").expect("a port");
        let bound = near.local_addr().expect("an address").port();
        let server: SocketAddr = format!("{}:{port}", self.here).parse().expect("an address");
        let (asked, asks) = mpsc::channel::<TcpStream>();
        let network = File::open(format!("/run/netns/{}", self.name)).expect("the other network");
        // A socket belongs to the network of the thread that opens it.
        thread::spawn(move || {
            use std::os::fd::AsFd as _;
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("the other network can be entered");
            for near in asks {
                if let Ok(far) = TcpStream::connect(server) {
                    join(near, far);
                }
            }
        });
        thread::spawn(move || {
            for near in near.incoming().map_while(Result::ok) {
                asked.send(near).ok();
            }
        });
        bound
    }

    /// From now on, what either end sends is lost.
    pub(crate) fn pull(&self) {
        self.set("down");
    }

    /// It arrives again.
    pub(crate) fn plug(&self) {
        self.set("up");
    }

    fn set(&self, state: &str) {
        ip(&["-n", &self.name, "link", "set", "far", state]).expect("a cable");
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The cable is deleted with the network of its far end. Sockets there keep that network
        // alive, so the cable is deleted explicitly.
        ip(&["link", "del", &self.name]).ok();
        ip(&["netns", "del", &self.name]).ok();
    }
}

fn join(near: TcpStream, far: TcpStream) {
    let (near_too, far_too) = (near.try_clone(), far.try_clone());
    thread::spawn(move || pass(&near, &far));
    if let (Ok(near), Ok(far)) = (near_too, far_too) {
        thread::spawn(move || pass(&far, &near));
    }
}

/// Runs until one end is closed or broken, which closes the other.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    io::copy(&mut from, &mut to).ok();
    for end in [from, to] {
        end.shutdown(Shutdown::Both).ok();
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output: io::Result<Output> = Command::new("ip").args(arguments).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => Err(format!("ip: {error}")),
    }
}
