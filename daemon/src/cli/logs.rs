//! `mesita logs`

use std::io::{self, Write};
use std::process::ExitCode;

use mesita_core::wire::svc::{CloseReason, LogsOf, Output, Stream};
use mesita_core::wire::{AgentId, FrameworkId};

use super::output::{self, Followed};
use super::{Failure, find};
use crate::alarm;
use crate::flags::Logs;

/// Silence for so long is told, in µs.
const PATIENCE_US: u64 = 2_000_000;

pub(super) fn main(flags: &Logs) -> Result<ExitCode, Failure> {
    super::log_warnings();
    alarm::block_on(print(flags))
}

async fn print(flags: &Logs) -> Result<ExitCode, Failure> {
    if flags.follow {
        let followed = Followed {
            at: &flags.at,
            framework: FrameworkId::NONE,
            task: &flags.task,
            which: which(flags),
            offset: from(flags),
            patience_us: 0,
        };
        output::follow(followed, |bytes| io::stdout().write_all(bytes)).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let asker = find::ask(&flags.at).await?;
    let stream = Stream::Logs {
        agent: AgentId::NONE,
        of: LogsOf::Task { framework: FrameworkId::NONE, task: &flags.task },
        which: which(flags),
        offset: from(flags),
        follow: false,
    };
    let Some(handle) = asker.open(stream) else {
        return Err(Failure::plain("the master serves no more streams"));
    };
    let reading = async {
        loop {
            let patience = async {
                alarm::after(PATIENCE_US).await;
                eprintln!("mesita logs: the agent of `{}` does not answer; waiting", flags.task);
                std::future::pending().await
            };
            match futures_lite::future::or(handle.read(), patience).await {
                Ok(chunk) => {
                    match blocking::unblock(move || io::stdout().write_all(&chunk)).await {
                        Ok(()) => {}
                        // The reader has seen enough.
                        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                        Err(error) => return Err(Failure::plain(error)),
                    }
                }
                Err(closed) if closed.reason == CloseReason::Done => return Ok(()),
                Err(closed) => return Err(Failure::plain(closed.message)),
            }
        }
    };
    asker.during(reading).await.map_err(Failure::plain)??;
    Ok(ExitCode::SUCCESS)
}

fn which(flags: &Logs) -> Output {
    if flags.stderr { Output::Stderr } else { Output::Stdout }
}

fn from(flags: &Logs) -> i64 {
    flags.tail.map_or(0, |bytes| -i64::from(bytes))
}
