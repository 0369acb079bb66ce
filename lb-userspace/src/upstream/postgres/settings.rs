//! What a session has set, so that any server connection can be made to agree with it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

/// Settings by name, each with the statement that makes it so.
#[derive(Debug, Default, PartialEq, Eq, Hash, Clone)]
pub struct Map(BTreeMap<String, Vec<u8>>);

/// One set of settings, held once however many sessions have it.
#[derive(Debug, Clone)]
pub struct Settings(Rc<Map>);

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        // Equal maps are the same map: the table below sees to it.
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// Settings of which SET takes several words, and would take a list in quotes for one of them.
const LISTS_OF_NAMES: [&str; 5] = [
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
    "shared_preload_libraries",
];
/// SET where it will do: it takes no snapshot, after which a transaction's isolation is settled.
const SET: &str = "SET ";
const SET_CONFIG: &str = "SELECT pg_catalog.set_config(";
const SET_CONFIG_LASTS: &str = ", false)";
const SET_CONFIG_LOCAL: &str = ", true)";

/// When so many sets are held, those that nobody has any more are forgotten.
const SWEEP_AT: usize = 1024;

/// Every set of settings that somebody has.
#[derive(Debug)]
pub struct Table {
    sets: RefCell<HashSet<Rc<Map>>>,
    sweep_at: std::cell::Cell<usize>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            sets: RefCell::default(),
            sweep_at: SWEEP_AT.into(),
        }
    }
}

impl Eq for Settings {}

impl std::hash::Hash for Settings {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Rc::as_ptr(&self.0).hash(state);
    }
}

impl Table {
    /// The one set that is equal to `map`.
    pub fn hold(&self, map: Map) -> Settings {
        let mut sets = self.sets.borrow_mut();
        if let Some(held) = sets.get(&map) {
            return Settings(Rc::clone(held));
        }
        if sets.len() >= self.sweep_at.get() {
            sets.retain(|held| Rc::strong_count(held) > 1);
            self.sweep_at.set(SWEEP_AT.max(sets.len() * 2));
        }
        let held = Rc::new(map);
        sets.insert(Rc::clone(&held));
        Settings(held)
    }

    /// `settings` with one setting changed; `None` takes it away.
    pub fn changed(&self, settings: &Settings, name: &str, sql: Option<&[u8]>) -> Settings {
        let mut map = Map::clone(&settings.0);
        match sql {
            Some(sql) => map.0.insert(name.to_owned(), sql.to_vec()),
            None => map.0.remove(name),
        };
        self.hold(map)
    }
}

impl Settings {
    /// The statement that makes one setting what it is.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.0.get(name).map(Vec::as_slice)
    }

    /// What is set, each with the statement that makes it so.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let settings = self.0.0.iter();
        settings.map(|(name, sql)| (name.as_str(), sql.as_slice()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }
}

impl Map {
    /// The settings of a startup packet: what is not the protocol's own is a setting.
    pub fn of_startup<'p>(parameters: impl IntoIterator<Item = (&'p str, &'p str)>) -> Self {
        let mut map = Self::default();
        for (name, value) in parameters {
            match name {
                "user" | "database" | "replication" => {}
                "options" => options(value, &mut map),
                name if name.starts_with("_pq_.") => {}
                name => map.configure(name, value),
            }
        }
        map
    }

    /// As a configuration file would set it: lists are lists, not one quoted word.
    fn configure(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        let value = literal(value);
        let sql = if LISTS_OF_NAMES.contains(&name.as_str()) {
            format!("{SET_CONFIG}{}, {value}{SET_CONFIG_LASTS}", literal(&name))
        } else {
            format!("{SET}{} TO {value}", identifier(&name))
        };
        self.0.insert(name, sql.into_bytes());
    }
}

/// The same statement of a login's setting, for the open transaction only.
pub fn local(sql: &[u8]) -> Vec<u8> {
    if let Some(call) = sql.strip_suffix(SET_CONFIG_LASTS.as_bytes()) {
        return [call, SET_CONFIG_LOCAL.as_bytes()].concat();
    }
    let rest = sql.strip_prefix(SET.as_bytes()).unwrap_or(sql);
    [b"SET LOCAL ", rest].concat()
}

/// `-c name=value`, `-cname=value` and `--name=value`, as PostgreSQL's command line has them.
fn options(text: &str, map: &mut Map) {
    let mut words = words(text).into_iter();
    while let Some(word) = words.next() {
        let pair = match word.strip_prefix("--") {
            Some(long) => Some(long.to_owned()),
            None => match word.strip_prefix("-c") {
                Some("") => words.next(),
                Some(joined) => Some(joined.to_owned()),
                None => None,
            },
        };
        if let Some((name, value)) = pair.as_deref().and_then(|pair| pair.split_once('=')) {
            map.configure(&name.replace('-', "_"), value);
        }
    }
}

/// Words between spaces; a backslash takes the next letter as it is.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => word.extend(letters.next()),
            letter if letter.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            letter => word.push(letter),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// The statements that turn `from` into `to`, as one query; empty if nothing is to do.
pub fn script(from: &Settings, to: &Settings) -> Vec<u8> {
    let mut script = statements(from, to).join(&b';');
    if !script.is_empty() {
        script.push(b';');
    }
    script
}

/// The statements that turn `from` into `to`.
pub fn statements(from: &Settings, to: &Settings) -> Vec<Vec<u8>> {
    let (from, to) = (&from.0.0, &to.0.0);
    let mut statements = Vec::new();
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        if name == "session characteristics" {
            for part in ["isolation", "read_only", "deferrable"] {
                statements.push(format!("RESET default_transaction_{part}").into_bytes());
            }
        } else {
            statements.push(format!("RESET {}", identifier(name)).into_bytes());
        }
    }
    for (name, sql) in to {
        if from.get(name) != Some(sql) {
            statements.push(sql.clone());
        }
    }
    statements
}

/// Names of settings may have a dot, of which each side is an identifier.
fn identifier(name: &str) -> String {
    let quoted = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
    let parts: Vec<_> = name.split('.').map(quoted).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parameters: &[(&str, &str)]) -> Map {
        Map::of_startup(parameters.iter().copied())
    }

    #[test]
    fn equal_settings_are_one() {
        let table = Table::default();
        let one = table.hold(of(&[("user", "a"), ("application_name", "x")]));
        let two = table.hold(of(&[("application_name", "x"), ("user", "b")]));
        assert!(one == two);
        assert!(script(&one, &two).is_empty());
    }

    #[test]
    fn a_script_undoes_what_one_has_and_does_what_the_other_has() {
        let table = Table::default();
        let one = table.hold(of(&[("application_name", "o'x"), ("my.own", "1")]));
        let two = table.changed(
            &table.hold(Map::default()),
            "datestyle",
            Some(b"SET DateStyle TO ISO"),
        );
        let there = String::from_utf8(script(&one, &two)).expect("SQL is text");
        let quoted = "RESET \"application_name\";RESET \"my\".\"own\";SET DateStyle TO ISO;";
        assert_eq!(there, quoted);
        let back = String::from_utf8(script(&two, &one)).expect("SQL is text");
        assert!(
            back.contains(r#"SET "application_name" TO 'o''x';"#),
            "{back}"
        );
    }

    #[test]
    fn options_are_settings() {
        let map = of(&[("options", "-c search_path=a,b --work-mem=1MB -cx=a\\ b")]);
        let search_path = String::from_utf8_lossy(&map.0["search_path"]);
        assert!(
            search_path.ends_with("set_config('search_path', 'a,b', false)"),
            "{search_path}"
        );
        assert!(local(&map.0["search_path"]).ends_with(b"'a,b', true)"));
        assert_eq!(
            local(&map.0["work_mem"]),
            br#"SET LOCAL "work_mem" TO '1MB'"#
        );
        let names: Vec<_> = map.0.keys().map(String::as_str).collect();
        assert_eq!(names, ["search_path", "work_mem", "x"]);
        assert!(String::from_utf8_lossy(&map.0["x"]).contains("'a b'"));
    }
}
