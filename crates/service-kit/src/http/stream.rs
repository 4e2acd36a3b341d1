//! The stream of one connection: it tells when bytes come, fails when the client does not take an answer, and
//! ends gently.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{stall::Stall, tls::Stream, turn::Turn};

/// What a client still sends when its connection is closed is read and thrown away for so long, and up to so
/// much: a connection that is closed with bytes unread is reset, which may take the answer from the client.
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(1);
pub const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What is thrown away is read in pieces of this size.
pub const DISCARD_BYTES: usize = 4 * 1024;

pub struct PatientStream {
    stream: Stream,
    turn: Turn,
    stall: Stall,
    lingering: Option<Lingering>,
}

impl PatientStream {
    pub fn new(stream: Stream, turn: Turn, stall: Stall) -> Self {
        Self { stream, turn, stall, lingering: None }
    }

    fn watch_write(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if polled.is_pending() {
            self.turn.is_full();
        }
        let written = ready!(self.stall.watch(context, polled));
        self.turn.taken();
        Poll::Ready(written.unwrap_or_else(|stalled| Err(io::Error::new(io::ErrorKind::TimedOut, stalled))))
    }
}

impl AsyncRead for PatientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.turn.heard();
        }
        polled
    }
}

impl AsyncWrite for PatientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch_write(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watch_write(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let lingering = this.lingering.get_or_insert_with(Lingering::default);
        lingering.poll(&mut this.stream, context).map(Ok)
    }
}

/// The end of a connection on which the client may be sending still.
#[derive(Default)]
struct Lingering {
    bytes: usize,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Lingering {
    fn poll(&mut self, stream: &mut Stream, context: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; DISCARD_BYTES];
        while self.bytes < LINGER_BYTES_MAX {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.bytes += buffer.filled().len(),
                Poll::Ready(_) => break,
                // A client that was silent when its connection was closed is not sending.
                Poll::Pending if self.bytes == 0 => break,
                Poll::Pending => {
                    let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(LINGER_TIME_MAX)));
                    return alarm.as_mut().poll(context);
                }
            }
        }
        Poll::Ready(())
    }
}
