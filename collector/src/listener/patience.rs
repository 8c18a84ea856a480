//! A connection whose client takes nothing is closed: it would hold what is buffered for it, and whoever writes to it, for ever.

use axum_server::accept::Accept;
use std::future::{Ready, ready};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How long a client may take nothing of what is sent to it. Long enough for somebody who is asked where a download goes.
pub const BLOCKED_MAX: Duration = Duration::from_mins(1);

/// Accepts connections that are closed after having been blocked for this long. Small writes leave at once
/// (`TCP_NODELAY`): the next may be far away.
#[derive(Clone, Copy, Debug)]
pub struct Patience(pub Duration);

/// A connection with an end to being blocked.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    blocked_max: Duration,
    /// Runs while a write waits.
    blocked: Option<Pin<Box<Sleep>>>,
}

impl<Service> Accept<TcpStream, Service> for Patience {
    type Stream = Patient<TcpStream>;
    type Service = Service;
    type Future = Ready<io::Result<(Self::Stream, Service)>>;

    fn accept(&self, stream: TcpStream, service: Service) -> Self::Future {
        ready(stream.set_nodelay(true).map(|()| (Patient::new(stream, self.0), service)))
    }
}

impl<S> Patient<S> {
    fn new(stream: S, blocked_max: Duration) -> Self {
        Self { stream, blocked_max, blocked: None }
    }

    /// The outcome of a write, or an error once it has waited for too long.
    fn bounded<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.blocked = None;
            return outcome;
        }
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(self.blocked_max)));
        match blocked.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.bounded(context, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.bounded(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_flush(context);
        this.bounded(context, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_shutdown(context);
        this.bounded(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (near, far) = duplex(4);
        let mut near = Patient::new(near, SHORT);
        near.write_all(b"1234").await.expect("there is room");
        let error = near.write_all(b"5").await.expect_err("there is none");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(far);
    }

    #[tokio::test]
    async fn each_byte_that_is_taken_begins_the_time_anew() {
        let (near, mut far) = duplex(1);
        let mut near = Patient::new(near, 20 * SHORT);
        let reading = tokio::spawn(async move {
            let mut byte = [0];
            for _ in 0..30 {
                tokio::time::sleep(SHORT).await;
                far.read_exact(&mut byte).await.expect("written");
            }
        });
        near.write_all(&[0; 30]).await.expect("never blocked for long");
        reading.await.expect("no panic");
    }
}
