//! A certificate authority of our own, made anew by each test program.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::program::{must, tool};
use crate::scene::artifacts;

#[derive(Debug)]
pub struct Certificates {
    pub ca: PathBuf,
    pub ecdsa: Pair,
    pub rsa: Pair,
}

/// A certificate for localhost, by name and by both addresses, with its key.
#[derive(Debug, Clone)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

pub fn certificates() -> &'static Certificates {
    static MADE: OnceLock<Certificates> = OnceLock::new();
    MADE.get_or_init(|| {
        // Brought into a virtual machine, where making them would take long.
        let brought = artifacts().join("certificates");
        if brought.exists() {
            return Certificates::at(&brought);
        }
        let directory = artifacts().join(format!("certificates-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory for certificates");
        Certificates::make(&directory)
    })
}

impl Certificates {
    fn at(directory: &Path) -> Self {
        Self {
            ca: Pair::at(directory, "ca").cert,
            ecdsa: Pair::at(directory, "ecdsa"),
            rsa: Pair::at(directory, "rsa"),
        }
    }

    fn make(directory: &Path) -> Self {
        let ca = Pair::at(directory, "ca");
        let mut command = tool("openssl", "openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ]);
        command.args([
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=tlscope tests",
            "-keyout",
        ]);
        must(command.arg(&ca.key).arg("-out").arg(&ca.cert));
        let ecdsa = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        Self {
            ecdsa: Pair::signed(directory, "ecdsa", &ecdsa, &ca),
            rsa: Pair::signed(directory, "rsa", &["-newkey", "rsa:2048"], &ca),
            ca: ca.cert,
        }
    }
}

impl Pair {
    fn at(directory: &Path, name: &str) -> Self {
        let file = |ending| directory.join(format!("{name}.{ending}"));
        Self {
            cert: file("pem"),
            key: file("key"),
        }
    }

    fn signed(directory: &Path, name: &str, new_key: &[&str], ca: &Self) -> Self {
        let pair = Self::at(directory, name);
        let mut command = tool("openssl", "openssl");
        command.args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=localhost",
        ]);
        command.args([
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1",
        ]);
        command
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(new_key);
        command.arg("-CA").arg(&ca.cert).arg("-CAkey").arg(&ca.key);
        must(
            command
                .arg("-keyout")
                .arg(&pair.key)
                .arg("-out")
                .arg(&pair.cert),
        );
        pair
    }
}
