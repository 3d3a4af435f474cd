//! A network between two programs: a TCP proxy whose connections can be cut or stalled.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Forwards bytes to one address until it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
    listener: Option<JoinHandle<()>>,
}

/// What all connections share.
struct Wire {
    target: Mutex<String>,
    is_stalled: Mutex<bool>,
    passes: Condvar,
    ended: AtomicBool,
    connections: Mutex<HashMap<u64, [TcpStream; 2]>>,
}

impl Proxy {
    /// Binds an address (port 0: any free one), and forwards to another, which need not answer yet.
    pub(crate) fn start(listen: &str, target: &str) -> Self {
        let listener = TcpListener::bind(listen).expect("the proxy's port is free");
        let address = listener.local_addr().expect("an address");
        let wire = Arc::new(Wire {
            target: Mutex::new(target.to_owned()),
            is_stalled: Mutex::new(false),
            passes: Condvar::new(),
            ended: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let shared = Arc::clone(&wire);
        let accepts = std::thread::spawn(move || accept(&listener, &shared));
        Self {
            address,
            wire,
            listener: Some(accepts),
        }
    }

    /// The target of new connections.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection. New ones lead elsewhere, or end at once where that port has no
    /// listener.
    pub(crate) fn lead_to(&self, target: &str) {
        target.clone_into(&mut self.wire.target());
        self.cut();
    }

    /// Ends every connection; new ones are accepted.
    pub(crate) fn cut(&self) {
        for pair in self.wire.connections().values() {
            for end in pair {
                end.shutdown(Shutdown::Both).ok();
            }
        }
    }

    /// Holds back every byte in both directions, also of new connections, without closing any.
    pub(crate) fn stall(&self) {
        self.wire.set_stalled(true);
    }

    /// Forwards what was held back, and what follows.
    pub(crate) fn pass(&self) {
        self.wire.set_stalled(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.wire.ended.store(true, Ordering::SeqCst);
        self.pass();
        self.cut();
        // Wakes the listener.
        TcpStream::connect(self.address).ok();
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
    }
}

impl Wire {
    fn target(&self) -> std::sync::MutexGuard<'_, String> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<u64, [TcpStream; 2]>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn set_stalled(&self, is_stalled: bool) {
        let mut stalled = self
            .is_stalled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *stalled = is_stalled;
        self.passes.notify_all();
    }

    fn await_passing(&self) {
        let stalled = self
            .is_stalled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(self.passes.wait_while(stalled, |stalled| *stalled));
    }
}

fn accept(listener: &TcpListener, wire: &Arc<Wire>) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    for near in listener.incoming() {
        if wire.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(near) = near else { continue };
        let wire = Arc::clone(wire);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        std::thread::spawn(move || {
            wire.await_passing();
            // An unreachable target closes the connection, as it would itself.
            let target = wire.target().clone();
            if let Ok(far) = TcpStream::connect(target) {
                carry(number, &near, &far, &wire);
            }
        });
    }
}

/// Forwards bytes in both directions, until one end closes.
fn carry(number: u64, near: &TcpStream, far: &TcpStream, wire: &Wire) {
    for end in [near, far] {
        end.set_nodelay(true).ok();
    }
    let (Ok(near_end), Ok(far_end)) = (near.try_clone(), far.try_clone()) else {
        return;
    };
    wire.connections().insert(number, [near_end, far_end]);
    std::thread::scope(|scope| {
        scope.spawn(|| pump(near, far, wire));
        pump(far, near, wire);
    });
    wire.connections().remove(&number);
}

fn pump(mut from: &TcpStream, mut to: &TcpStream, wire: &Wire) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        wire.await_passing();
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Either side learns of the end, but not while bytes are held back.
    wire.await_passing();
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
