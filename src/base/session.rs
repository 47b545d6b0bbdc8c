//! A step between us and a service: leaves our session, then becomes the service.
//!
//! A service must outlive the terminal and the cron job that started it, so it needs a session
//! of its own. The standard library cannot make one between fork and exec without unsafe code;
//! a program that does it and then execs can.

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;

/// The secret word.
pub const WORD: &str = "__exec-session";

/// Every program of ours, called with the secret word first, becomes the program behind it, in
/// a new session. Otherwise does nothing.
pub fn exec_session_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != WORD {
        return None;
    }
    let program = arguments.next()?;
    if let Err(error) = rustix::process::setsid() {
        eprintln!("cannot make a session of its own: {error}");
        return Some(ExitCode::from(126));
    }
    heed_signals();
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("cannot run {}: {error}", program.display());
    // As shells do: 127 not found, 126 not executable.
    Some(ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }))
}

/// What `nohup`, or `&` in a script, had us ignore would be ignored by the service too, for good: no shell may
/// trap it. What is handled is reset by exec.
pub fn heed_signals() {
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGCHLD] {
        // Where that cannot be, all is as whoever called us has it.
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
}

/// A command that will run `words` in a session of its own, with its pid.
pub fn in_own_session(words: &[String]) -> std::io::Result<Command> {
    // On Linux also right when our own file was replaced or deleted meanwhile.
    let me = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
    let mut command = Command::new(me);
    command.arg(WORD).args(words);
    Ok(command)
}
