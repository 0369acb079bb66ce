//! The documentation and the examples say what the code does.

use std::{fmt::Write, fs, path::PathBuf};

use crate::config::{
    Config,
    keys::{Key, Section, TOP, WhenAbsent},
};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The table that docs/configuration.md must have for a section, word for word.
fn table(section: Section) -> String {
    let mut table = "| key | type | default | meaning |\n|---|---|---|---|\n".to_owned();
    for Key {
        name,
        kind,
        default,
        meaning,
    } in section.keys()
    {
        let default = match default {
            WhenAbsent::Required(_) => "**required**".to_owned(),
            WhenAbsent::Value(value) => format!("`{value}`"),
            WhenAbsent::Words(words) => (*words).to_owned(),
        };
        writeln!(table, "| `{name}` | {kind} | {default} | {meaning} |").expect("a String grows");
    }
    table
}

#[test]
fn the_documentation_lists_every_key_with_type_default_and_meaning() {
    let document = fs::read_to_string(repository().join("docs/configuration.md"))
        .expect("docs/configuration.md is in the repository");
    for &section in Section::ALL {
        let table = table(section);
        assert!(
            document.contains(&table),
            "docs/configuration.md: the table of {} must read:\n\n{table}",
            section.title()
        );
    }
    for section in TOP {
        assert!(
            document.contains(&section.header()),
            "{} is not mentioned",
            section.header()
        );
    }
}

#[test]
fn the_documented_defaults_are_what_the_code_does() {
    let all = |section: Section, skip: &[&str]| -> String {
        let keys = section
            .keys()
            .iter()
            .filter(|key| !skip.contains(&key.name));
        let pairs = keys.filter_map(|key| match key.default {
            WhenAbsent::Required(value) | WhenAbsent::Value(value) => {
                Some(format!("{} = {value}", key.name))
            }
            WhenAbsent::Words(_) => None,
        });
        pairs.collect::<Vec<_>>().join("\n")
    };
    let only_required = |section: Section, skip: &[&str]| -> String {
        let keys = section
            .keys()
            .iter()
            .filter(|key| !skip.contains(&key.name));
        let pairs = keys.filter_map(|key| match key.default {
            WhenAbsent::Required(value) => Some(format!("{} = {value}", key.name)),
            _ => None,
        });
        pairs.collect::<Vec<_>>().join("\n")
    };
    let file = |section: &dyn Fn(Section, &[&str]) -> String, flows: bool| {
        let mut text = format!("[agent]\n{}\n", section(Section::Agent, &[]));
        for (pool, http_only) in [("logic", &["path", "host", "expect"][..]), ("web", &[])] {
            let kind = if pool == "web" {
                "kind = \"http\"\n"
            } else {
                "kind = \"tcp\"\n"
            };
            let skip = [http_only, &["kind", "port"]].concat();
            let keys = section(Section::Pool, &["name", "backends"]);
            write!(text, "[[pool]]\nname = \"{pool}\"\n{keys}\n").expect("a String grows");
            if flows {
                let flows = section(Section::Flows, &[]);
                write!(text, "[pool.flows]\n{flows}\n").expect("a String grows");
            }
            let check = section(Section::Check, &skip);
            let backend = section(Section::Backend, &[]);
            write!(
                text,
                "[pool.check]\nport = 80\n{kind}{check}\n[[pool.backends]]\n{backend}\n"
            )
            .expect("a String grows");
        }
        text + &format!("[[service]]\n{}\n", section(Section::Service, &[]))
    };
    let spelled_out = file(&all, true);
    let left_out = file(&only_required, false);
    assert_eq!(
        Config::parse(&spelled_out, "lb.toml").expect(&spelled_out),
        Config::parse(&left_out, "lb.toml").expect(&left_out),
    );
}

#[test]
fn every_example_is_accepted() {
    let mut examples = 0;
    for entry in fs::read_dir(repository().join("examples")).expect("examples/ is there") {
        let path = entry.expect("examples/ can be listed").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let config = Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(config.source, path);
            examples += 1;
        }
    }
    assert!(examples >= 3, "l2, ipip and everything");
}

#[test]
fn sections_of_other_daemons_are_named_as_unread() {
    let everything =
        Config::load(repository().join("examples/everything.toml")).expect("it is good");
    assert_eq!(everything.unread_sections(), ["entity"]);
    let l2 = Config::load(repository().join("examples/l2.toml")).expect("it is good");
    assert!(l2.unread_sections().is_empty());
}
