//! The presets: what is known of an agent, as plain data in `presets/`, compiled in.

/// One preset.
pub struct Preset {
    /// As written in `preset = "…"`.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// Its TOML.
    pub source: &'static str,
}

/// All presets.
pub const ALL: [Preset; 1] = [Preset {
    name: "builtin",
    about: "the agent that comes along, `ops agent`",
    source: include_str!("../../presets/builtin.toml"),
}];

/// The preset of a name.
pub fn find(name: &str) -> Option<&'static Preset> {
    ALL.iter().find(|preset| preset.name == name)
}
