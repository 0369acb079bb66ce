//! One client: its requests one after the other, each answered before the next is read.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::{Answer, REQUEST_BYTES_MAX, Request};
use super::{ANSWERS_WAITING_MAX, Call, IDLE_MAX, WRITE_MAX};

/// Serves a client until it closes, is idle for too long or sends what is no request.
pub(super) async fn serve(stream: UnixStream, calls: mpsc::Sender<Call>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let Ok(line) = timeout(IDLE_MAX, read_line(&mut reader)).await else {
            return Ok(());
        };
        let line = line?;
        if line.is_empty() {
            return Ok(());
        }
        let request = match parse(&line) {
            Ok(request) => request,
            Err(reason) => return write(&mut writer, &Answer::Error(reason)).await,
        };
        let is_followed = matches!(request, Request::Events { follow: true });
        let (answers, receiver) = mpsc::channel(ANSWERS_WAITING_MAX);
        if calls.send(Call { request, answers }).await.is_err() {
            let gone = Answer::Error("the agent is shutting down; try again when it runs".into());
            return write(&mut writer, &gone).await;
        }
        if is_followed {
            follow(receiver, &mut reader, &mut writer).await?;
        } else {
            answer(receiver, &mut writer).await?;
        }
    }
}

/// A line with its end, or nothing at the end of the stream; longer ones are cut.
async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader
        .take(REQUEST_BYTES_MAX as u64 + 1)
        .read_until(b'\n', &mut line)
        .await?;
    Ok(line)
}

fn parse(line: &[u8]) -> Result<Request, String> {
    if line.len() > REQUEST_BYTES_MAX {
        return Err(format!(
            "a request has at most {REQUEST_BYTES_MAX} bytes; send one JSON object a line"
        ));
    }
    serde_json::from_slice(line).map_err(|error| {
        format!("not a request of this version ({error}); use the lb of the agent's own version")
    })
}

/// Writes every answer, also to a client that has closed its sending half meanwhile.
async fn answer(
    mut receiver: mpsc::Receiver<Answer>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<()> {
    while let Some(answer) = receiver.recv().await {
        write(writer, &answer).await?;
    }
    Ok(())
}

/// Writes answers until there are no more, or until the client closes or sends its next request:
/// without this, one that went away would keep its place until something happens.
async fn follow(
    mut receiver: mpsc::Receiver<Answer>,
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<()> {
    loop {
        // Both arms may be cancelled without loss: a channel's recv, and a fill that consumes nothing.
        let answer = tokio::select! {
            answer = receiver.recv() => answer,
            more = reader.fill_buf() => return more.map(drop),
        };
        match answer {
            Some(answer) => write(writer, &answer).await?,
            None => return Ok(()),
        }
    }
}

async fn write(writer: &mut OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(WRITE_MAX, writer.write_all(&line))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
