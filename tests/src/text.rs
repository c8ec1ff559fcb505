//! The default output: header lines and what stands under them.

/// `UUID:<pid>_<tid>_<comm>_<fd>_<direction>_<tuple>, Name:..., Type:..., Length:...`, and in a
/// container `, Container:...` and `, Pod:...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub pid: u32,
    pub tid: u32,
    pub comm: String,
    pub fd: i32,
    /// 1 is sent, 0 is received.
    pub direction: u32,
    pub tuple: String,
    pub name: String,
    pub number: u32,
    pub length: u64,
    pub container: Option<String>,
    pub pod: Option<String>,
    /// All up to the next header, without the blank line at its end.
    pub body: String,
}

#[derive(Debug)]
pub struct Blocks {
    pub all: Vec<Block>,
    /// The lines behind responses, such as `GET localhost:443/: 200, 5 bytes, ...`.
    pub exchanges: Vec<String>,
}

impl Blocks {
    #[track_caller]
    pub fn parse(output: &[u8]) -> Self {
        let text = std::str::from_utf8(output).expect("text output is UTF-8");
        let (mut blocks, mut exchanges) = (Vec::<Block>::new(), Vec::new());
        let mut lines = text.split_inclusive('\n');
        while let Some(line) = lines.next() {
            if let Some(block) = header(line.trim_end_matches('\n')) {
                blocks.push(block);
            } else if let Some(exchange) = exchange(line) {
                exchanges.push(exchange.to_owned());
                assert_eq!(lines.next(), Some("\n"), "a blank line behind {line}");
            } else {
                let block = blocks
                    .last_mut()
                    .expect("the output begins with a header line");
                block.body.push_str(line);
            }
        }
        for block in &mut blocks {
            let body = block
                .body
                .strip_suffix('\n')
                .expect("a blank line ends a block");
            block.body = body.to_owned();
        }
        Self {
            all: blocks,
            exchanges,
        }
    }

    pub fn of(&self, pid: u32) -> Vec<&Block> {
        self.all.iter().filter(|b| b.pid == pid).collect()
    }

    /// Of `--raw`, where bodies are any bytes.
    #[track_caller]
    pub fn parse_raw(mut output: &[u8]) -> Vec<(Block, Vec<u8>)> {
        let mut blocks = Vec::new();
        while let Some(at) = output.iter().position(|&b| b == b'\n') {
            let line = String::from_utf8_lossy(&output[..at]);
            let block = header(&line).unwrap_or_else(|| panic!("no header: {line}"));
            let (body, rest) = output[at + 1..].split_at(block.length as usize);
            let end: &[u8] = if body.ends_with(b"\n") {
                b"\n"
            } else {
                b"\n\n"
            };
            let rest = rest.strip_prefix(end);
            output = rest.expect("a blank line ends a block");
            blocks.push((block, body.to_vec()));
        }
        blocks
    }

    /// The blocks of one direction of a process.
    pub fn direction(&self, pid: u32, direction: u32) -> Vec<&Block> {
        self.all
            .iter()
            .filter(|b| b.pid == pid && b.direction == direction)
            .collect()
    }
}

/// Of `-- GET localhost/: 200, 5 bytes, first byte 1.00ms, total 1.00ms --`.
fn exchange(line: &str) -> Option<&str> {
    let words = line.strip_prefix("-- ")?.strip_suffix(" --\n")?;
    words.contains(" bytes").then_some(words)
}

fn header(line: &str) -> Option<Block> {
    let (identity, rest) = line.strip_prefix("UUID:")?.split_once(", Name:")?;
    let (name, rest) = rest.split_once(", Type:")?;
    let (number, rest) = rest.split_once(", Length:")?;
    let (rest, pod) = cut(rest, ", Pod:");
    let (length, container) = cut(rest, ", Container:");
    // The comm may hold underscores; neither end does.
    let (pid, rest) = identity.split_once('_')?;
    let (tid, rest) = rest.split_once('_')?;
    let mut last = rest.rsplitn(4, '_');
    let (tuple, direction, fd) = (last.next()?, last.next()?, last.next()?);
    let comm = last.next()?;
    Some(Block {
        pid: pid.parse().ok()?,
        tid: tid.parse().ok()?,
        comm: comm.to_owned(),
        fd: fd.parse().ok()?,
        direction: direction.parse().ok()?,
        tuple: tuple.to_owned(),
        name: name.to_owned(),
        number: number.parse().ok()?,
        length: length.parse().ok()?,
        container,
        pod,
        body: String::new(),
    })
}

/// What stands before and behind.
fn cut<'a>(text: &'a str, at: &str) -> (&'a str, Option<String>) {
    match text.split_once(at) {
        Some((before, behind)) => (before, Some(behind.to_owned())),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "UUID:7_8_my_prog_5_1_[::1]:443, Name:HTTPRequest, Type:1, Length:4\nGET \n\n";

    #[test]
    fn a_comm_with_underscores_is_read_whole() {
        let blocks = Blocks::parse(HEADER.repeat(2).as_bytes()).all;
        assert_eq!(blocks.len(), 2);
        assert_eq!((blocks[0].pid, blocks[0].tid, blocks[0].fd), (7, 8, 5));
        assert_eq!(
            (&*blocks[0].comm, &*blocks[0].tuple),
            ("my_prog", "[::1]:443")
        );
        assert_eq!(blocks[0].body, "GET \n");
    }
}
