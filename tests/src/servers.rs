//! Servers as guards: own configuration, own port, ready when started.

use std::fs;
use std::path::{Path, PathBuf};

use crate::certificates::{Pair, certificates};
use crate::program::{Finished, Program, must, tool};
use crate::scene::{Scene, free_port, until_listening};
use crate::{digest, wait};

/// nginx with one worker, over TLS; serves and takes (PUT) files.
#[derive(Debug)]
pub struct Nginx {
    program: Program,
    /// HTTP/1.1.
    pub port: u16,
    /// The same by HTTP/2.
    pub http2_port: u16,
    root: PathBuf,
    log: PathBuf,
}

impl Nginx {
    #[track_caller]
    pub fn start(scene: &Scene) -> Self {
        Self::start_with(scene, &certificates().ecdsa, "")
    }

    /// With more lines for the `server` block.
    #[track_caller]
    pub fn start_with(scene: &Scene, pair: &Pair, lines: &str) -> Self {
        let (port, http2_port) = (free_port(), free_port());
        let root = scene.fresh("www");
        fs::create_dir_all(&root).expect("nginx root");
        let log = scene.fresh("nginx.access");
        let text = configuration(
            scene.directory(),
            [port, http2_port],
            pair,
            &root,
            &log,
            lines,
        );
        let conf = scene.write("nginx.conf", text.as_bytes());
        let mut command = tool("nginx", "nginx-light");
        command
            .arg("-p")
            .arg(scene.directory())
            .arg("-c")
            .arg(conf)
            .args(["-e", "stderr"]);
        let mut program = Program::start(scene, "nginx", command);
        until_listening(&mut program, port);
        Self {
            program,
            port,
            http2_port,
            root,
            log,
        }
    }

    /// Puts a file of this many bytes up; the answer is its path in URLs and its content.
    pub fn serve(&self, length: usize) -> (String, Vec<u8>) {
        let content = digest::noise(length, length as u64);
        fs::write(self.root.join(format!("{length}.bin")), &content).expect("file to serve");
        (format!("/{length}.bin"), content)
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    pub fn http2_url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.http2_port)
    }

    /// Method, target and status of each request, in the order of their ends.
    pub fn logged(&self) -> Vec<(String, String, u64)> {
        let log = fs::read_to_string(&self.log).expect("nginx's log");
        let request = |line: &str| {
            let mut quoted = line.split('"').skip(1);
            let mut words = quoted.next()?.split(' ').map(str::to_owned);
            let status = quoted.next()?.split_whitespace().next()?.parse().ok()?;
            Some((words.next()?, words.next()?, status))
        };
        log.lines()
            .map(|line| request(line).unwrap_or_else(|| panic!("not a line of a log: {line}")))
            .collect()
    }

    /// What a client put there.
    pub fn uploaded(&self, name: &str) -> Vec<u8> {
        fs::read(self.root.join(name)).expect("an uploaded file")
    }

    /// The process that talks: the worker, a child of the one we started.
    #[track_caller]
    pub fn worker(&self) -> u32 {
        let master = self.program.pid();
        let children = format!("/proc/{master}/task/{master}/children");
        wait::until("nginx's worker", || {
            fs::read_to_string(&children)
                .ok()?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
    }

    /// Waits until nginx is done with this many requests: it logs a request after
    /// the last byte of the answer was written.
    #[track_caller]
    pub fn until_served(&self, requests: usize) {
        crate::peer::until_lines(&self.log, requests);
    }
}

fn configuration(
    dir: &Path,
    [port, http2_port]: [u16; 2],
    pair: &Pair,
    root: &Path,
    log: &Path,
    lines: &str,
) -> String {
    let (dir, root, log) = (dir.display(), root.display(), log.display());
    let (cert, key) = (pair.cert.display(), pair.key.display());
    // Built apart from nginx, so loaded only where it is used.
    let modules = if lines.contains("brotli") {
        "load_module /usr/lib/nginx/modules/ngx_http_brotli_filter_module.so;"
    } else {
        ""
    };
    format!(
        "{modules} daemon off; user root; worker_processes 1; pid {dir}/nginx.pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log {log}; default_type application/octet-stream;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  keepalive_requests 100000; client_max_body_size 0;
  server {{
    listen 127.0.0.1:{port} ssl backlog=1024;
    listen 127.0.0.1:{http2_port} ssl http2 backlog=1024; server_name localhost;
    ssl_certificate {cert}; ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    root {root}; dav_methods PUT;
    {lines}
  }}
}}
"
    )
}

/// redis-server that listens with TLS only.
#[derive(Debug)]
pub struct Redis {
    program: Program,
    pub port: u16,
}

impl Redis {
    #[track_caller]
    pub fn start(scene: &Scene) -> Self {
        let port = free_port();
        let pair = &certificates().ecdsa;
        let mut command = tool("redis-server", "redis-server");
        command.args([
            "--port",
            "0",
            "--tls-port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
        ]);
        command
            .arg("--tls-cert-file")
            .arg(&pair.cert)
            .arg("--tls-key-file")
            .arg(&pair.key);
        command.arg("--tls-ca-cert-file").arg(&certificates().ca);
        command.args([
            "--tls-auth-clients",
            "no",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.arg("--dir").arg(scene.directory());
        let mut program = Program::start(scene, "redis-server", command);
        until_listening(&mut program, port);
        Self { program, port }
    }

    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Runs redis-cli; `stdin` becomes the last argument when given.
    #[track_caller]
    pub fn client(&self, scene: &Scene, arguments: &[&str], stdin: Option<&Path>) -> Finished {
        let mut command = tool("redis-cli", "redis-tools");
        command.args(["--tls", "-h", "localhost", "-p", &self.port.to_string()]);
        command.arg("--cacert").arg(&certificates().ca);
        if let Some(path) = stdin {
            command
                .arg("-x")
                .stdin(fs::File::open(path).expect("input of redis-cli"));
        }
        command.args(arguments);
        Program::start(scene, "redis-cli", command)
            .finish()
            .success()
    }
}

/// The paths of a fresh curl run.
#[derive(Debug)]
pub struct Curl {
    pub finished: Finished,
    pub body: Vec<u8>,
    /// Every byte that curl passed to and took from TLS, of `--trace`.
    pub sent: Vec<u8>,
    pub received: Vec<u8>,
    pub keylog: PathBuf,
}

/// Runs curl on one URL.
#[track_caller]
pub fn curl(scene: &Scene, url: &str, arguments: &[&str]) -> Curl {
    let running = start_curl(scene, url, arguments);
    running.finish()
}

#[derive(Debug)]
pub struct RunningCurl {
    program: Program,
    body: PathBuf,
    trace: PathBuf,
    keylog: PathBuf,
}

pub fn start_curl(scene: &Scene, url: &str, arguments: &[&str]) -> RunningCurl {
    let (body, trace) = (scene.fresh("curl.body"), scene.fresh("curl.trace"));
    let keylog = scene.fresh("curl.keylog");
    let mut command = tool("curl", "curl");
    command.args([
        "--silent",
        "--show-error",
        "--fail",
        "--http1.1",
        "--raw",
        "--cacert",
    ]);
    command
        .arg(&certificates().ca)
        .arg("--output")
        .arg(&body)
        .arg("--trace")
        .arg(&trace);
    command
        .env("SSLKEYLOGFILE", &keylog)
        .env_remove("https_proxy")
        .env_remove("HTTPS_PROXY");
    command.args(["--noproxy", "*"]).args(arguments).arg(url);
    RunningCurl {
        program: Program::start(scene, "curl", command),
        body,
        trace,
        keylog,
    }
}

impl RunningCurl {
    #[track_caller]
    pub fn finish(self) -> Curl {
        let finished = self.program.finish().success();
        let trace = fs::read_to_string(&self.trace).expect("curl's trace");
        let (sent, received) = streams_of_trace(&trace);
        let body = fs::read(&self.body).unwrap_or_default();
        Curl {
            finished,
            body,
            sent,
            received,
            keylog: self.keylog,
        }
    }
}

/// The plaintext in curl's `--trace`: a line `=> Send header, N bytes (0xN)` or the like,
/// then lines `0000: 47 45 54 ... GET`.
fn streams_of_trace(trace: &str) -> (Vec<u8>, Vec<u8>) {
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    let mut unwanted = Vec::new();
    let mut direction = 0;
    for line in trace.lines() {
        if let Some(what) = line.strip_prefix("=> Send ") {
            direction = usize::from(!what.starts_with("SSL"));
        } else if let Some(what) = line.strip_prefix("<= Recv ") {
            direction = 2 * usize::from(!what.starts_with("SSL"));
        } else if line.starts_with("==") {
            direction = 0;
        } else if let Some((_, dump)) = line.split_once(": ") {
            let stream = [&mut unwanted, &mut sent, &mut received]
                .into_iter()
                .nth(direction);
            let columns = dump.get(..48).unwrap_or(dump).split_ascii_whitespace();
            let bytes = columns.map_while(|c| u8::from_str_radix(c, 16).ok());
            stream.expect("one of three").extend(bytes);
        }
    }
    (sent, received)
}

/// Checks that the tools of a topic are there, before a test gets anywhere.
#[track_caller]
pub fn version_of(program: &str, package: &str, argument: &str) -> String {
    String::from_utf8_lossy(&must(tool(program, package).arg(argument))).into_owned()
}
