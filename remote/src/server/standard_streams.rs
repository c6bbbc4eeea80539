//! The standard streams as a connection.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

type Input = Box<dyn AsyncRead + Send + Unpin>;
type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The standard streams, read and written without threads where they are pipes or
/// sockets, as a client's child has them.
pub(super) fn standard_streams() -> io::Result<(Input, Output)> {
    let (input, output) = (io::stdin(), io::stdout());
    let input: Input = match kind(&input.as_fd().try_clone_to_owned()?)? {
        Kind::Pipe(fd) => Box::new(pipe::Receiver::from_owned_fd(fd)?),
        Kind::Socket(fd) => Box::new(socket(fd)?),
        Kind::Other => Box::new(tokio::io::stdin()),
    };
    let output: Output = match kind(&output.as_fd().try_clone_to_owned()?)? {
        Kind::Pipe(fd) => Box::new(pipe::Sender::from_owned_fd(fd)?),
        Kind::Socket(fd) => Box::new(socket(fd)?),
        Kind::Other => Box::new(tokio::io::stdout()),
    };
    Ok((input, output))
}

enum Kind {
    Pipe(OwnedFd),
    Socket(OwnedFd),
    Other,
}

fn kind(fd: &OwnedFd) -> io::Result<Kind> {
    let file = std::fs::File::from(fd.try_clone()?);
    let kind = file.metadata()?.file_type();
    let fd = OwnedFd::from(file);
    Ok(if kind.is_fifo() {
        Kind::Pipe(fd)
    } else if kind.is_socket() {
        Kind::Socket(fd)
    } else {
        Kind::Other
    })
}

fn socket(fd: OwnedFd) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(fd);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
