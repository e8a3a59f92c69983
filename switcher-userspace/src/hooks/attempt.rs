//! Attempts at a call.

use std::time::Duration;

use humantime::format_duration;
use tokio::time::{sleep, timeout};

use super::{Occasion, web};
use crate::config::{Hook, HookKind, On};
use crate::program::{self, how};

/// Time until the second attempt; doubled from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a call came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it went well.
    pub passed: bool,
    /// How it ended, in a few words.
    pub why: String,
    /// What the program or receiver said; bounded.
    pub said: String,
    /// How often it was called.
    pub attempts: u32,
}

/// Calls a hook, again if it fails, as often as it may be.
pub async fn call(hook: &Hook, occasion: &Occasion) -> Outcome {
    let (mut attempts, mut pause) = (0, FIRST_PAUSE);
    loop {
        attempts += 1;
        let outcome = try_once(hook, occasion).await;
        if outcome.passed || attempts > hook.retries {
            return Outcome {
                attempts,
                ..outcome
            };
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One attempt.
pub async fn try_once(hook: &Hook, occasion: &Occasion) -> Outcome {
    let outcome = match &hook.what {
        HookKind::Exec(program) => {
            let environment = occasion.environment();
            match program::run(program, environment, hook.timeout).await {
                Ok(ended) => {
                    let said = [ended.out.text(), ended.err.text()];
                    let said: Vec<String> = said.into_iter().filter(|it| !it.is_empty()).collect();
                    (ended.status.success(), how(ended.status), said.join("\n"))
                }
                Err(why) => (false, why, String::new()),
            }
        }
        HookKind::Web(receiver) => {
            let answer = timeout(hook.timeout, web::post(receiver, occasion, hook.on)).await;
            match answer {
                Ok(Ok(answer)) => (answer.passed, answer.status, answer.said),
                Ok(Err(why)) => (false, why, String::new()),
                Err(_) => {
                    let patience = format_duration(hook.timeout);
                    (false, format!("no answer within {patience}"), String::new())
                }
            }
        }
    };
    let (passed, why, said) = outcome;
    Outcome {
        // Flagger's `rollback` passes where somebody wants to go back.
        passed: passed != (hook.on == On::Rollback),
        why,
        said,
        attempts: 1,
    }
}

impl Outcome {
    /// Why it failed, for people, on a line.
    #[must_use]
    pub fn reason(&self) -> String {
        let line = self.said.lines().next().unwrap_or_default();
        let line: String = line.chars().take(200).collect();
        match line.is_empty() {
            true => self.why.clone(),
            false => format!("{}: {line}", self.why),
        }
    }
}
