//! What everything else stands on: values, and the few places that touch disk and processes.

pub mod arguments;
pub mod database;
pub mod durable;
pub mod events;
pub mod exposition;
pub mod fault;
pub mod home;
pub mod journal;
pub mod launchd;
pub mod lines;
pub mod maintenance;
pub mod manager;
pub mod mark;
pub mod name;
pub mod notice;
pub mod owner;
pub mod process;
pub mod progress;
pub mod range;
pub mod render;
pub mod run;
pub mod secret;
pub mod state;
pub mod status_file;
pub mod step;
pub mod systemd;
pub mod text;
pub mod tls;
pub mod units;
pub mod upgrade;

pub use fault::Fault;
pub use home::Home;
pub use journal::Journal;
pub use run::Run;
pub use state::State;
