//! A client's TCP connection, that notices when another server answers than the one it began with.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::PATIENCE;
use crate::{pattern, servers};

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    /// Who answered first.
    server: Option<String>,
    /// Lines come back.
    echoes: bool,
}

impl Connection {
    /// Connects, waiting as long as a client of the load does.
    ///
    /// # Errors
    /// When it is refused, reset or not answered.
    pub fn open(address: SocketAddr) -> Result<Self> {
        Self::open_within(address, PATIENCE)
    }

    /// The same with another patience, for each answer as well.
    ///
    /// # Errors
    /// When it is refused, reset or not answered.
    pub fn open_within(address: SocketAddr, patience: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience).context("connecting")?;
        Self::over(stream, patience)
    }

    /// The same from this port, which no other client may choose by itself: to a service and to its preview the kernel makes
    /// two connections from one port.
    ///
    /// # Errors
    /// When it is refused, reset or not answered, or the port is taken.
    pub fn open_from(port: u16, address: SocketAddr) -> Result<Self> {
        Self::over(connect_from(port, address, PATIENCE)?, PATIENCE)
    }

    fn over(stream: TcpStream, patience: Duration) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self {
            stream: BufReader::new(stream),
            server: None,
            echoes: false,
        })
    }

    /// This end.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn own(&self) -> Result<SocketAddr> {
        self.stream
            .get_ref()
            .local_addr()
            .context("asking for the own address")
    }

    /// Whom this host takes for the other end.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn peer(&self) -> Result<SocketAddr> {
        self.stream
            .get_ref()
            .peer_addr()
            .context("asking for the peer")
    }

    /// Who answered first, as it calls itself.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// `GET /`: the colour that answered.
    ///
    /// # Errors
    /// When there is no answer, or one of another server than before.
    pub fn colour(&mut self) -> Result<String> {
        let length = self.get("/")?;
        let mut body = vec![0; usize::try_from(length)?];
        self.stream
            .read_exact(&mut body)
            .context("reading the body")?;
        self.known(&String::from_utf8(body)?)
    }

    /// `GET PATH`: the status line's code, and nothing else.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn status(&mut self, path: &str) -> Result<u16> {
        self.ask(path)?;
        let line = self.line()?;
        line.split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .context("no status line")
    }

    /// Downloads the pattern and checks every byte: the colour that sent it.
    ///
    /// # Errors
    /// When it ends early or a byte is wrong.
    pub fn download(&mut self, seconds: f64, bytes: u64) -> Result<String> {
        let colour = self.colour()?;
        self.take(0, seconds, bytes)?;
        Ok(colour)
    }

    /// Gets the pattern of `seed` and checks every byte.
    ///
    /// # Errors
    /// When it ends early or a byte is wrong.
    pub fn take(&mut self, seed: u8, seconds: f64, bytes: u64) -> Result<()> {
        let length = self.get(&format!(
            "/long?seconds={seconds}&bytes={bytes}&seed={seed}"
        ))?;
        ensure!(
            length == bytes,
            "asked for {bytes} bytes, promised {length}"
        );
        let (mut got, mut piece) = (0, [0; 16 * 1024]);
        while got < bytes {
            let most = piece.len().min(usize::try_from(bytes - got)?);
            let size = self
                .stream
                .read(&mut piece[..most])
                .with_context(|| format!("reading byte {got}"))?;
            ensure!(size > 0, "the download ends at byte {got} of {bytes}");
            if let Some(wrong) = pattern::first_wrong(seed, got, &piece[..size]) {
                bail!("byte {wrong} of the download is wrong");
            }
            got += size as u64;
        }
        Ok(())
    }

    /// Sends the pattern of `seed` in pieces, with a pause after each; the server checks every byte.
    ///
    /// # Errors
    /// When the server has not got all of them as they should be.
    pub fn give(&mut self, seed: u8, pieces: u32, piece: usize, pause: Duration) -> Result<()> {
        let bytes = u64::from(pieces) * piece as u64;
        let head =
            format!("PUT /pattern?bytes={bytes}&seed={seed} HTTP/1.1\r\nHost: service\r\n\r\n");
        self.write(head.as_bytes())?;
        let mut buffer = vec![0; piece];
        for number in 0..u64::from(pieces) {
            pattern::fill(seed, number * piece as u64, &mut buffer);
            self.write(&buffer)
                .with_context(|| format!("sending byte {}", number * piece as u64))?;
            std::thread::sleep(pause);
        }
        let length = self.head("an upload")?;
        let mut body = vec![0; usize::try_from(length)?];
        self.stream.read_exact(&mut body)?;
        let said = String::from_utf8(body)?;
        ensure!(said.trim() == "all right", "of the upload {}", said.trim());
        Ok(())
    }

    /// Says `text` by the echo protocol: the colour that answered.
    ///
    /// # Errors
    /// When the answer is missing, another text, or of another server.
    pub fn say(&mut self, text: &str) -> Result<String> {
        if !std::mem::replace(&mut self.echoes, true) {
            self.write(b"ECHO\n")?;
        }
        self.write(format!("{text}\n").as_bytes())?;
        let answer = self.line()?;
        let server = answer.strip_suffix(&format!(" {text}"));
        let server = server.with_context(|| format!("said {text:?}, heard {answer:?}"))?;
        self.known(server)
    }

    fn get(&mut self, path: &str) -> Result<u64> {
        self.ask(path)?;
        self.head(path)
    }

    /// An answer up to its body, whose length it is.
    fn head(&mut self, path: &str) -> Result<u64> {
        let status = self.line()?;
        ensure!(
            status == "HTTP/1.1 200 OK",
            "asked for {path}, heard {status:?}"
        );
        let mut length = None;
        loop {
            let header = self.line()?;
            if header.is_empty() {
                return length.context("an answer without its length");
            }
            if let Some(value) = header.strip_prefix("Content-Length: ") {
                length = Some(value.parse()?);
            }
        }
    }

    fn ask(&mut self, path: &str) -> Result<()> {
        self.write(format!("GET {path} HTTP/1.1\r\nHost: service\r\n\r\n").as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).context("sending")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let size = self
            .stream
            .read_line(&mut line)
            .context("reading an answer")?;
        ensure!(
            size > 0,
            "the connection was closed where an answer was due"
        );
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn known(&mut self, answer: &str) -> Result<String> {
        let server = self.server.get_or_insert_with(|| answer.trim().to_owned());
        ensure!(
            server == answer.trim(),
            "the connection began with {server:?} and went on with {answer:?}"
        );
        servers::colour_of(server)
            .map(str::to_owned)
            .with_context(|| format!("{server:?} names no colour"))
    }
}

/// Connects to an IPv4 address from this port, which may have had another connection just now.
///
/// # Errors
/// When it is refused, reset or not answered, or the port is taken.
pub fn connect_from(port: u16, to: SocketAddr, patience: Duration) -> Result<TcpStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let made = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&made, sockopt::ReuseAddr, &true)?;
    let millis = i64::try_from(patience.as_millis())?;
    setsockopt(&made, sockopt::SendTimeout, &TimeVal::milliseconds(millis))?;
    let any = SocketAddr::from(([0, 0, 0, 0], port));
    bind(made.as_raw_fd(), &SockaddrStorage::from(any))?;
    connect(made.as_raw_fd(), &SockaddrStorage::from(to)).context("connecting")?;
    Ok(TcpStream::from(made))
}
