//! Servers and proxies as they come in packages, each with connections held open while
//! `/proc` tells which process has them, and by which descriptor.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::{Begin, End, ends, sockets, with_certificates};
use crate::certificates::certificates;
use crate::program::{Program, must, tool};
use crate::records::Carrier;
use crate::scene::{Scene, fixture, free_port, until_listening};
use crate::wait;

const CONNECTIONS: usize = 2;

/// The other end of a connection, by whoever holds it.
#[track_caller]
fn opposite(end: &End) -> End {
    let Carrier { local, remote, .. } = &end.written;
    let peer = local.as_deref().expect("an address");
    let (pid, fd) = sockets::holder(remote, peer);
    End {
        pid,
        written: Carrier {
            fd: Some(fd),
            local: Some(remote.clone()),
            remote: peer.to_owned(),
            unknown: None,
        },
        read: None,
        sent: end.received.clone(),
        received: end.sent.clone(),
        parts: false,
    }
}

/// One of `flows_http.py`, whose connections stay open while it runs.
struct Http(Program);

impl Http {
    #[track_caller]
    fn client(scene: &Scene, port: u16) -> Self {
        let mut command = Self::command("client");
        command.arg(port.to_string()).arg(&certificates().ca);
        Self::start(scene, command)
    }

    /// A server and its port.
    #[track_caller]
    fn server(scene: &Scene) -> (Self, u16) {
        let mut command = Self::command("server");
        let pair = &certificates().ecdsa;
        command.arg(&pair.cert).arg(&pair.key);
        let mut server = Self::start(scene, command);
        let port = server.0.until("its port", |p| {
            let text = String::from_utf8(p.stdout_so_far()).ok()?;
            text.lines().next()?.strip_prefix("port ")?.parse().ok()
        });
        (server, port)
    }

    fn command(role: &str) -> Command {
        let mut command = tool("python3", "python3");
        command.arg(fixture("flows_http.py")).arg(role);
        command
    }

    fn start(scene: &Scene, mut command: Command) -> Self {
        command.arg(CONNECTIONS.to_string()).stdin(Stdio::piped());
        Self(Program::start(scene, "flows-http", command))
    }

    /// Its ends, and those that they talk to, once all has been said.
    #[track_caller]
    fn ends(&mut self) -> Vec<End> {
        let own = self.0.until("its connections", |p| {
            let text = String::from_utf8(p.stdout_so_far()).ok()?;
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            Some(ends(whole)).filter(|ends| ends.len() == CONNECTIONS)
        });
        let others: Vec<End> = own.iter().map(opposite).collect();
        own.into_iter().chain(others).collect()
    }

    #[track_caller]
    fn finish(self) {
        let _ = self.0.finish().success();
    }
}

pub(super) fn apache_prefork(scene: &Scene, _: Begin<'_>) -> Vec<End> {
    let ends = apache(scene, "prefork");
    let [.., first, second] = ends.as_slice() else {
        panic!("two connections: {ends:?}");
    };
    assert_ne!(first.pid, second.pid, "a worker has one connection");
    ends
}

pub(super) fn apache_event(scene: &Scene, _: Begin<'_>) -> Vec<End> {
    apache(scene, "event")
}

#[track_caller]
fn apache(scene: &Scene, module: &str) -> Vec<End> {
    let port = free_port();
    let directory = scene.path(&format!("apache-{module}"));
    fs::create_dir_all(&directory).expect("a directory for Apache");
    fs::write(directory.join("flow.txt"), "a line to be served\n").expect("a file to serve");
    let (pair, root) = (&certificates().ecdsa, directory.display());
    let (cert, key) = (pair.cert.display(), pair.key.display());
    // The rest that it needs is built in.
    let load = [&format!("mpm_{module}"), "ssl", "authz_core"]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
    let configuration = format!(
        "{load}ServerRoot {root}
DefaultRuntimeDir {root}
ServerName localhost
PidFile {root}/pid
ErrorLog {root}/error.log
LogFormat \"%P %{{remote}}p %q\" flow
CustomLog {root}/access.log flow
Listen 127.0.0.1:{port}
KeepAliveTimeout 60
DocumentRoot {root}
StartServers 2
<Directory {root}>
Require all granted
</Directory>
SSLEngine on
SSLCertificateFile {cert}
SSLCertificateKeyFile {key}
"
    );
    let path = scene.write(&format!("apache-{module}.conf"), configuration.as_bytes());
    let mut command = tool("apache2", "apache2-bin");
    command.args(["-DFOREGROUND", "-f"]).arg(path);
    let mut server = Program::start(scene, "apache2", command);
    until_listening(&mut server, port);
    let mut client = Http::client(scene, port);
    let ends = client.ends();
    client.finish();
    ends
}

pub(super) fn haproxy(scene: &Scene, _: Begin<'_>) -> Vec<End> {
    let port = free_port();
    let (mut back, back_port) = Http::server(scene);
    let pair = &certificates().ecdsa;
    // It wants both in one file.
    let both = [&pair.cert, &pair.key].map(|path| fs::read(path).expect("a certificate"));
    let pem = scene.write("haproxy.pem", &both.concat());
    let (pem, ca) = (pem.display(), certificates().ca.display());
    let configuration = format!(
        "global
  nbthread 1
defaults
  mode http
  http-reuse never
  timeout client 60s
  timeout server 60s
  timeout connect 60s
frontend front
  bind 127.0.0.1:{port} ssl crt {pem}
  default_backend back
backend back
  server one 127.0.0.1:{back_port} ssl verify required ca-file {ca} sni str(localhost)
"
    );
    let path = scene.write("haproxy.cfg", configuration.as_bytes());
    let mut command = tool("haproxy", "haproxy");
    command.arg("-db").arg("-f").arg(path);
    let mut server = Program::start(scene, "haproxy", command);
    until_listening(&mut server, port);
    let mut front = Http::client(scene, port);
    let ends = [front.ends(), back.ends()].concat();
    front.finish();
    back.finish();
    ends
}

/// Between its two services the bytes are in the clear.
pub(super) fn stunnel(scene: &Scene, _: Begin<'_>) -> Vec<End> {
    let (mut back, back_port) = Http::server(scene);
    let [port, between] = [free_port(), free_port()];
    let pair = &certificates().ecdsa;
    let (cert, key) = (pair.cert.display(), pair.key.display());
    let configuration = format!(
        "foreground = yes
pid =
[in]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{between}
cert = {cert}
key = {key}
[out]
client = yes
accept = 127.0.0.1:{between}
connect = 127.0.0.1:{back_port}
"
    );
    let path = scene.write("stunnel.conf", configuration.as_bytes());
    let mut command = tool("stunnel4", "stunnel4");
    command.arg(path);
    let mut server = Program::start(scene, "stunnel", command);
    server.until("stunnel to listen", |p| {
        p.stderr_so_far()
            .contains("Configuration successful")
            .then_some(())
    });
    let mut front = Http::client(scene, port);
    let ends = [front.ends(), back.ends()].concat();
    front.finish();
    back.finish();
    ends
}

pub(super) fn stunnel_on_socket(scene: &Scene, _: Begin<'_>) -> Vec<End> {
    stunnel_as_inetd(scene, "inetd_socket")
}

pub(super) fn stunnel_on_sockets(scene: &Scene, _: Begin<'_>) -> Vec<End> {
    stunnel_as_inetd(scene, "inetd_sockets")
}

pub(super) fn stunnel_on_pipes(scene: &Scene, _: Begin<'_>) -> Vec<End> {
    stunnel_as_inetd(scene, "inetd_pipes")
}

#[track_caller]
fn stunnel_as_inetd(scene: &Scene, style: &str) -> Vec<End> {
    let pair = &certificates().ecdsa;
    let (cert, key) = (pair.cert.display(), pair.key.display());
    let program = tool("stunnel4", "stunnel4");
    let configuration = format!(
        "cert = {cert}\nkey = {key}\noutput = {}\n",
        scene.path("log").display()
    );
    let path = scene.write("inetd.conf", configuration.as_bytes());
    let mut command = tool("python3", "python3");
    command.arg(fixture("flows_peer.py")).arg(style);
    let mut command = with_certificates(command);
    command.arg(program.get_program()).arg(path);
    ends(
        &Program::start(scene, style, command)
            .finish()
            .success()
            .text(),
    )
}

pub(super) fn postgres(scene: &Scene, _: Begin<'_>) -> Vec<End> {
    let server = Postgres::start(scene);
    let mut psql = server.psql(scene);
    let ends = psql.ask("select 'flow' || 1234");
    let _ = psql.0.finish().success();
    ends
}

/// The connection stands, and has carried something, before `begin`.
pub(super) fn postgres_before(scene: &Scene, begin: Begin<'_>) -> Vec<End> {
    let server = Postgres::start(scene);
    let mut psql = server.psql(scene);
    psql.ask("select 'early' || 1234");
    begin(None);
    let ends = psql.ask("select 'flow' || 1234");
    let _ = psql.0.finish().success();
    ends
}

/// A cluster of its own, in the hands of its usual user: it refuses root.
struct Postgres {
    program: Program,
    port: u16,
}

/// Killed outright it leaves a megabyte of shared memory behind for good, and one of 4096 segments.
impl Drop for Postgres {
    fn drop(&mut self) {
        self.program.signal(Signal::QUIT);
        wait::poll(wait::BOUND, || self.program.ended());
    }
}

impl Postgres {
    #[track_caller]
    fn start(scene: &Scene) -> Self {
        let port = free_port();
        let data = scene.fresh("postgres");
        fs::create_dir(&data).expect("a directory for PostgreSQL");
        must(Command::new("chown").arg("postgres:").arg(&data));
        must(
            Self::tool("initdb")
                .args(["--auth=trust", "--no-sync", "--no-locale", "-D"])
                .arg(&data),
        );
        for (name, from) in [
            ("server.crt", &certificates().ecdsa.cert),
            ("server.key", &certificates().ecdsa.key),
        ] {
            let own = data.join(name);
            fs::copy(from, &own).expect("copy a certificate");
            must(Command::new("chown").arg("postgres:").arg(&own));
            must(Command::new("chmod").arg("600").arg(&own));
        }
        let mut command = Self::tool("postgres");
        command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        for setting in ["ssl=on", "listen_addresses=127.0.0.1", "fsync=off"] {
            command.args(["-c", setting]);
        }
        command
            .arg("-c")
            .arg(format!("unix_socket_directories={}", data.display()));
        let mut program = Program::start(scene, "postgres", command);
        program.until("the server", |p| {
            p.stderr_so_far()
                .contains("ready to accept connections")
                .then_some(())
        });
        Self { program, port }
    }

    #[track_caller]
    fn tool(name: &str) -> Command {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let mut found = versions
            .flatten()
            .map(|entry| entry.path().join("bin").join(name));
        let path = found.find(|path| path.exists());
        let path = path.unwrap_or_else(|| panic!("{name} is missing: apt-get install postgresql"));
        let mut command = tool("setpriv", "util-linux");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .arg(path)
            .current_dir("/");
        command
    }

    fn psql(&self, scene: &Scene) -> Psql {
        let mut command = tool("psql", "postgresql-client");
        command
            .args([
                "--no-psqlrc",
                "--quiet",
                "--tuples-only",
                "--no-align",
                "-d",
            ])
            .arg(format!(
                "host=127.0.0.1 port={} user=postgres dbname=postgres sslmode=require",
                self.port
            ))
            .stdin(Stdio::piped());
        Psql(Program::start(scene, "psql", command))
    }
}

struct Psql(Program);

impl Psql {
    /// The two ends of its connection, once there is an answer.
    #[track_caller]
    fn ask(&mut self, query: &str) -> Vec<End> {
        let answer = query.replace("select ", "").replace(['\'', ' ', '|'], "");
        self.0.say(format!("{query};\n").as_bytes());
        self.0.until("an answer", |p| {
            String::from_utf8_lossy(&p.stdout_so_far())
                .contains(&answer)
                .then_some(())
        });
        let client = End {
            pid: self.0.pid(),
            written: sockets::only(self.0.pid()),
            read: None,
            sent: query.to_owned(),
            received: answer,
            parts: true,
        };
        let server = End {
            parts: true,
            ..opposite(&client)
        };
        vec![client, server]
    }
}
