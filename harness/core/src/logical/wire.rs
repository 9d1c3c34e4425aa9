//! The connection to a walsender: PostgreSQL's streaming replication protocol (manual, 55.4) on the library's own messages.
//!
//! The clients there are either don't know the copy-both mode that replication needs, or fix the protocol's version and
//! with it leave out the streaming of large transactions.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use futures_util::FutureExt;
use postgres_protocol::{
    authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    message::{
        backend::{ErrorFields, Header, Message},
        frontend,
    },
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    change::Lsn,
    error::{Context, Error, Result},
    postgres::{self, Address, tls::SslMode},
    time::now_us,
};

const SERVICE: &str = "PostgreSQL's walsender";
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Answers the start of replication: data flows both ways from then on.
const COPY_BOTH_RESPONSE_TAG: u8 = b'W';

/// From 1970 to 2000, where the server's clock begins.
pub(super) const EPOCH_US: i64 = 946_684_800_000_000;

/// A message of the server's within the stream.
#[derive(Debug)]
pub(super) enum Frame {
    /// A message of the output plugin, and the position of the change it tells of.
    Wal { at: Lsn, data: Bytes },
    /// The server is there; it has sent everything up to a position, and may want to hear the same of us.
    KeepAlive { end: Lsn, wants_reply: bool },
}

enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Socket {
    /// pgoutput sends each change in a packet of its own, so that the way counts: a Unix socket is twice as fast.
    async fn connect(address: &Address) -> Answer<Self> {
        if let Some(path) = &address.socket
            && let Ok(stream) = UnixStream::connect(path).await
        {
            return Ok(Self::Unix(stream));
        }
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        if address.tls.mode == SslMode::Disable {
            return Ok(Self::Tcp(stream));
        }
        Self::encrypted(address, stream).await
    }

    /// Asks the server for TLS, which answers by one byte (manual, 54.2.10 "SSL Session Encryption").
    async fn encrypted(address: &Address, mut stream: TcpStream) -> Answer<Self> {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        stream.write_all_buf(&mut request).await?;
        match stream.read_u8().await? {
            b'S' => {}
            _ if address.tls.mode == SslMode::Prefer => return Ok(Self::Tcp(stream)),
            _ => return Err(Refusal::fatal("the server doesn't speak TLS, which sslmode asks for".to_owned())),
        }
        let fatal = |error: &dyn std::fmt::Display| Refusal::fatal(error.to_string());
        let config = address.tls.client().map_err(|error| fatal(&error))?;
        let name = ServerName::try_from(address.host.clone()).map_err(|error| fatal(&error))?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        // A certificate that isn't trusted is no better at the next try.
        let connected = connected.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => fatal(&error),
            _ => error.into(),
        });
        Ok(Self::Tls(Box::new(connected?)))
    }

    async fn read(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read_buf(input).await,
            Self::Tls(stream) => stream.read_buf(input).await,
            Self::Unix(stream) => stream.read_buf(input).await,
        }
    }

    async fn write_all(&mut self, output: &mut BytesMut) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all_buf(output).await,
            Self::Tls(stream) => {
                stream.write_all_buf(output).await?;
                stream.flush().await
            }
            Self::Unix(stream) => stream.write_all_buf(output).await,
        }
    }

    fn try_write(&mut self, output: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(output),
            Self::Tls(stream) => {
                stream.write(output).now_or_never().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
            }
            Self::Unix(stream) => stream.try_write(output),
        }
    }

    /// Sends what TLS has encrypted and the socket hasn't taken yet, as far as it takes it at once.
    fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(stream) => stream.flush().now_or_never().unwrap_or(Ok(())),
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
        }
    }
}

/// A connection in replication mode.
pub(super) struct Walsender {
    socket: Socket,
    input: BytesMut,
    output: BytesMut,
}

/// Why the server ended or refused something.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    /// The SQLSTATE (manual, appendix A); empty if the connection itself broke.
    pub(super) code: String,
    message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code.as_str() {
            "" => f.write_str(&self.message),
            code => write!(f, "{} (SQLSTATE {code})", self.message),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Whether connecting again may help: the connection broke, or the server shut down, starts, or ended this backend.
    pub(super) fn is_passing(&self) -> bool {
        self.code.is_empty() || matches!(self.code.as_str(), "57P01" | "57P02" | "57P03" | "08006" | "55006")
    }

    /// What connecting again doesn't mend.
    pub(super) fn fatal(message: String) -> Self {
        Self { code: "XX000".to_owned(), message }
    }

    fn told(mut fields: ErrorFields<'_>) -> Self {
        let mut refusal = Self::default();
        while let Ok(Some(field)) = fields.next() {
            let text = String::from_utf8_lossy(field.value_bytes());
            match field.type_() {
                b'C' => refusal.code = text.into_owned(),
                b'M' => refusal.message = text.into_owned(),
                b'D' | b'H' => refusal.message.push_str(&format!("; {text}")),
                _ => {}
            }
        }
        refusal
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { code: String::new(), message: error.to_string() }
    }
}

type Answer<T> = Result<T, Refusal>;

impl Walsender {
    /// Connects to a database in replication mode, with the settings that make values' text the same as elsewhere.
    pub(super) async fn connect(address: &Address, settings: &str) -> Answer<Self> {
        let connecting = timeout(CONNECT_WITHIN, Socket::connect(address)).await;
        let too_late = |_| Refusal::from(io::Error::new(io::ErrorKind::TimedOut, "it doesn't answer"));
        let socket = connecting.map_err(too_late)??;
        let (input, output) = (BytesMut::with_capacity(256 << 10), BytesMut::new());
        let mut walsender = Self { socket, input, output };
        let options = format!(
            "-c timezone=UTC -c datestyle=ISO,YMD -c intervalstyle=postgres -c bytea_output=hex \
             -c extra_float_digits=1 {settings}"
        );
        let parameters = [
            ("user", address.user.as_str()),
            ("database", address.database.as_str()),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", postgres::CAPTURE),
            ("options", options.as_str()),
        ];
        frontend::startup_message(parameters, &mut walsender.output)?;
        walsender.authenticate(&address.password).await?;
        Ok(walsender)
    }

    async fn authenticate(&mut self, password: &str) -> Answer<()> {
        let mut scram = None;
        loop {
            self.flush().await?;
            match self.message().await? {
                Message::AuthenticationCleartextPassword => {
                    frontend::password_message(password.as_bytes(), &mut self.output)?;
                }
                Message::AuthenticationSasl(_) => {
                    let begun = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                    frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), &mut self.output)?;
                    scram = Some(begun);
                }
                Message::AuthenticationSaslContinue(body) => {
                    let Some(scram) = &mut scram else { return Err(unexpected("a SASL challenge")) };
                    scram.update(body.data())?;
                    frontend::sasl_response(scram.message(), &mut self.output)?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    let Some(scram) = &mut scram else { return Err(unexpected("the end of a SASL exchange")) };
                    scram.finish(body.data())?;
                }
                Message::ReadyForQuery(_) => return Ok(()),
                Message::AuthenticationOk
                | Message::ParameterStatus(_)
                | Message::BackendKeyData(_)
                | Message::NoticeResponse(_) => {}
                _ => return Err(unexpected("a message that is none of authentication")),
            }
        }
    }

    /// Runs a command of the replication protocol, and returns the first row of its answer.
    pub(super) async fn command(&mut self, command: &str) -> Answer<Vec<Option<String>>> {
        frontend::query(command, &mut self.output)?;
        self.flush().await?;
        let (mut row, mut refused) = (Vec::new(), None);
        loop {
            match self.message().await {
                Ok(Message::DataRow(body)) if row.is_empty() => {
                    let buffer = body.buffer();
                    row = body
                        .ranges()
                        .map(|range| Ok(range.map(|range| String::from_utf8_lossy(&buffer[range]).into_owned())))
                        .collect()?;
                }
                Ok(Message::ReadyForQuery(_)) => return refused.map_or(Ok(row), Err),
                Ok(_) => {}
                // The server says so, and is then ready for the next command.
                Err(error) if !error.code.is_empty() => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts replication; from then on there are only frames.
    pub(super) async fn start(&mut self, command: &str) -> Answer<()> {
        frontend::query(command, &mut self.output)?;
        self.flush().await?;
        loop {
            if self.input.first() == Some(&COPY_BOTH_RESPONSE_TAG)
                && let Some(header) = Header::parse(&self.input)?
                && let Ok(length) = usize::try_from(header.len())
                && self.input.len() > length
            {
                self.input.advance(length + 1);
                return Ok(());
            }
            if self.input.len() >= 5 && self.input[0] != COPY_BOTH_RESPONSE_TAG {
                self.message().await?;
            } else {
                self.read().await?;
            }
        }
    }

    /// The next frame. Dropping the future loses nothing.
    pub(super) async fn frame(&mut self) -> Answer<Frame> {
        loop {
            self.try_flush()?;
            if let Message::CopyData(body) = self.message().await? {
                let mut data = body.into_bytes();
                if data.len() < 18 {
                    return Err(unexpected("a frame cut short"));
                }
                match data.get_u8() {
                    b'w' => {
                        let at = Lsn(data.get_u64());
                        data.advance(16);
                        return Ok(Frame::Wal { at, data });
                    }
                    b'k' => {
                        let end = Lsn(data.get_u64());
                        data.advance(8);
                        return Ok(Frame::KeepAlive { end, wants_reply: data.get_u8() == 1 });
                    }
                    _ => {}
                }
            }
        }
    }

    /// Tells the server that everything up to a position has been delivered: it needs that part of its log no more
    /// (manual, 55.4 "Standby status update").
    pub(super) fn confirm(&mut self, delivered: Lsn) -> Answer<()> {
        let now_us = now_us() - EPOCH_US;
        let mut status = BytesMut::with_capacity(34);
        status.put_u8(b'r');
        for _ in ["written", "flushed", "applied"] {
            status.put_u64(delivered.0);
        }
        status.put_i64(now_us);
        status.put_u8(0);
        frontend::CopyData::new(status)?.write(&mut self.output);
        self.try_flush()
    }

    /// The next message; an error of the server's as an error.
    async fn message(&mut self) -> Answer<Message> {
        loop {
            match Message::parse(&mut self.input)? {
                Some(Message::ErrorResponse(body)) => return Err(Refusal::told(body.fields())),
                Some(message) => return Ok(message),
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Answer<()> {
        self.input.reserve(64 << 10);
        match self.socket.read(&mut self.input).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection").into()),
            _ => Ok(()),
        }
    }

    async fn flush(&mut self) -> Answer<()> {
        self.socket.write_all(&mut self.output).await.map_err(Into::into)
    }

    /// Writes what the socket takes at once; the rest waits for the next call, so that no future can be dropped amid it.
    fn try_flush(&mut self) -> Answer<()> {
        while !self.output.is_empty() {
            match self.socket.try_write(&self.output) {
                Ok(written) => self.output.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.socket.try_flush().map_err(Into::into)
    }
}

fn unexpected(what: &str) -> Refusal {
    Refusal { code: String::new(), message: format!("the server sent {what}") }
}

/// A refusal as the harness's error.
pub(super) fn refused<T>(answer: Answer<T>, doing: impl Into<String>) -> Result<T> {
    answer.map_err(|refusal| Error::new(SERVICE, doing.into(), refusal))
}

/// A number that should be in an answer.
pub(super) fn lsn(text: Option<&Option<String>>) -> Result<Lsn> {
    let text = text.and_then(Option::as_deref).unwrap_or_default();
    text.parse().while_doing(SERVICE, format!("read the position “{text}”"))
}
