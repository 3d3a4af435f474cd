//! A small disk for a broker's log, which can be filled: a tmpfs, where this process may mount one.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Instance;

const SIZE: &str = "size=1g";

/// Unmounted on drop.
pub(crate) struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts a small disk under the log of one Kafka service. Prints the reason and returns `None`
    /// where that is impossible.
    pub(crate) fn under(instance: &mut Instance, what: &str, variable: &str) -> Option<Self> {
        let at = PathBuf::from(instance.variable(variable));
        instance.kill(what);
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SIZE, "doorbell-chaos"])
            .arg(&at)
            .output();
        let disk = match mounted {
            Ok(output) if output.status.success() => Some(Self { at }),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                eprintln!("chaos: no full disk: {}", said.trim());
                None
            }
            Err(error) => {
                eprintln!("chaos: no full disk: mount: {error}");
                None
            }
        };
        instance.bring_back(what);
        disk
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    pub(crate) fn fill(&self) {
        let mut file = File::create(self.ballast()).expect("room for a name");
        let block = vec![1; 1 << 20];
        while file.write_all(&block).is_ok() {}
        // Fills the last bytes, too.
        while file.write_all(&block[..1]).is_ok() {}
    }

    pub(crate) fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.at);
    }
}

fn unmount(at: &Path) {
    // A lazy unmount: the broker may still run.
    Command::new("umount").arg("-l").arg(at).output().ok();
}
