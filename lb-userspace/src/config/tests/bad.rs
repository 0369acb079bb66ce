//! What is refused: each kind of mistake with its place, its key and its message, word for word.

use std::fmt::Write;

use super::{AGENT, POOL, SERVICE, parse};
use crate::config::{BACKENDS_MAX, POOLS_MAX, SERVICES_MAX};

const BASE: &str = include_str!("bad/base.toml");
const CASES: &str = include_str!("bad/cases.txt");

/// Everything that is reported about a text, without the file's name.
fn reports(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(error) => {
            let lines = error.to_string();
            lines
                .lines()
                .map(|line| line.trim_start_matches("lb.toml:").to_owned())
                .collect()
        }
    }
}

/// The one report about a text, without its place.
fn report(text: &str) -> String {
    let reports = reports(text);
    assert_eq!(reports.len(), 1, "{reports:#?}");
    reports[0]
        .splitn(3, ':')
        .last()
        .expect("line:column: message")
        .trim_start()
        .to_owned()
}

#[test]
fn each_mistake_is_reported_with_line_key_and_what_would_be_right() {
    assert_eq!(reports(BASE), [""; 0], "what is changed below was good");
    let unescape = |text: &str| text.replace("\\n", "\n").replace("\\\\", "\\");
    let mut cases = 0;
    for case in CASES.split("\n\n") {
        let of = |mark| {
            case.lines()
                .filter_map(move |line: &str| line.strip_prefix(mark))
        };
        let (Some(before), Some(after)) = (of("- ").next(), of("+ ").next()) else {
            continue;
        };
        let (before, after) = (unescape(before), unescape(after));
        assert!(BASE.contains(&before), "{before:?} is in base.toml");
        let reports = reports(&BASE.replacen(&before, &after, 1));
        let expected: Vec<_> = of("> ").collect();
        assert_eq!(reports, expected, "{before:?} -> {after:?}");
        cases += 1;
    }
    assert!(cases > 100, "{cases} cases");
}

#[test]
fn all_mistakes_of_a_file_are_reported_at_once_in_its_order() {
    let text = BASE
        .replace("metrics =", "metrix =")
        .replace("slots = 65537", "slots = 1000")
        .replace("\"80ms\"", "\"1s\"")
        .replace("standby", "stand-by")
        .replace("port = 80\n", "port = 0\n");
    let keys: Vec<_> = parse(&text)
        .expect_err("it is wrong in five places")
        .diagnostics()
        .iter()
        .map(|diagnostic| (diagnostic.line, diagnostic.key.clone()))
        .collect();
    assert_eq!(
        keys,
        [
            (3, "agent.metrix".to_owned()),
            (7, "pool \"logic\".slots".to_owned()),
            (9, "pool \"logic\".check.timeout".to_owned()),
            (13, "pool \"logic\".backends \"logic-s1\".role".to_owned()),
            (19, "service \"web\".port".to_owned()),
        ]
    );
}

#[test]
fn an_empty_file_lacks_its_agent() {
    assert_eq!(
        report(""),
        "agent: is missing; write [agent] with interfaces = [\"eth0\"]"
    );
}

#[test]
fn a_pool_needs_a_primary_that_takes_flows() {
    let pool = |backends: &str| {
        report(&format!(
            "{AGENT}[[pool]]\nname = \"logic\"\nbackends = [{backends}]\n"
        ))
    };
    let key = "pool \"logic\".backends: ";
    assert_eq!(
        pool(""),
        format!("{key}is empty; name at least one primary")
    );
    let standby = "{ name = \"s\", address = \"10.0.0.1\", role = \"standby\" }";
    assert!(pool(standby).starts_with(&format!("{key}has no primary; ")));
    let idle = "{ name = \"p\", address = \"10.0.0.2\", weight = 0 }";
    let expected = format!("{key}every primary has weight 0");
    assert!(pool(&format!("{standby}, {idle}")).starts_with(&expected));
}

#[test]
fn a_pool_name_is_taken_once() {
    let text = format!("{AGENT}{POOL}{POOL}");
    let expected = "pool \"logic\".name: another pool is named \"logic\" already; \
                    give each pool a name of its own";
    assert_eq!(report(&text), expected);
}

#[test]
fn a_backend_port_without_number_in_the_service_is_refused() {
    let pool = POOL.replace(" }]", ", port = 80 }]");
    let text = format!("{AGENT}{pool}{}", SERVICE.replace("5432", "\"any\""));
    assert!(
        report(&text).contains("is 80, but service \"orders\" has port any; l2 and ipip cannot")
    );
}

#[test]
fn a_tunnel_does_not_start_where_a_backend_is() {
    let pool = POOL.replace("10.0.1.11", "198.18.0.9");
    let text = format!("{AGENT}{pool}forward = \"ipip\"\n");
    assert_eq!(
        report(&text),
        "pool \"logic\".backends \"logic-1\".address: 198.18.0.9 lies in 198.18.0.0/16, where outer \
         sources of ipip come from; set agent.tunnel_source_v4 to a network that no host is in"
    );
    let elsewhere = AGENT.to_owned() + "tunnel_source_v4 = \"198.19.0.0/16\"\n";
    assert_eq!(reports(&text.replace(AGENT, &elsewhere)), [""; 0]);
    assert_eq!(
        reports(&text.replace("ipip", "l2")),
        [""; 0],
        "l2 has no tunnel"
    );
}

#[test]
fn what_the_data_plane_cannot_hold_is_refused() {
    let mut text = AGENT.to_owned();
    for pool in 0..=POOLS_MAX {
        text += &POOL.replace("\"logic\"", &format!("\"p{pool}\""));
    }
    let expected = "pool \"p64\": is one of 65 pools; at most 64 fit; let services share pools";
    assert_eq!(report(&text), expected);

    let mut text = format!("{AGENT}{POOL}");
    for service in 0..=SERVICES_MAX {
        let name = format!("\"s{service}\"");
        text += &SERVICE
            .replace("\"orders\"", &name)
            .replace("5432", &(service + 1).to_string());
    }
    assert!(report(&text).starts_with("service \"s4096\": is one of 4097 services; at most 4096"));

    let mut text = format!("{AGENT}[[pool]]\nname = \"many\"\nbackends = [\n");
    for backend in 0..=BACKENDS_MAX {
        let (high, low) = (backend / 250, backend % 250 + 1);
        writeln!(
            text,
            "{{ name = \"b{backend}\", address = \"10.0.{high}.{low}\" }},"
        )
        .expect("a String grows");
    }
    text += "]\n";
    let expected = "pool \"many\".backends \"b8192\": is one of 8193 backends; at most 8192";
    assert!(report(&text).starts_with(expected));
    let text = text.replace("backends = [", "slots = 8191\nbackends = [");
    let too_few = "8191 slots are too few for 8193 primaries; leave it out for 65537";
    assert!(reports(&text)[0].ends_with(too_few));
}

#[test]
fn no_more_than_a_hundred_mistakes_are_reported_one_by_one() {
    let mut text = AGENT.to_owned();
    for wrong in 0..150 {
        writeln!(text, "wrong-{wrong} = 1").expect("a String grows");
    }
    let reports = reports(&text);
    assert_eq!(reports.len(), 100);
    assert!(
        reports[99].ends_with("(and 50 more mistakes)"),
        "{}",
        reports[99]
    );
}
