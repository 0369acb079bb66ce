//! A section of the file while it is read: which keys it has, and each value with its place, so
//! that whoever finds a mistake later can still say where it is.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::Diagnostics,
    keys::{self, Section},
    suggest::{bare, nearest, shown},
    value::{FromToml, Mistake},
};

/// A key's value as written, with the key's full path and place.
#[derive(Debug)]
pub(super) struct Field<T> {
    /// Full path, for messages.
    pub(super) key: String,
    /// Place of the value; of the section's header if the key is absent.
    pub(super) span: Range<usize>,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Absent,
    /// Reported already: say nothing more about it.
    Refused,
    Written(T),
}

impl<T> Field<T> {
    /// The value, if there is a good one.
    pub(super) fn written(&self) -> Option<&T> {
        match &self.state {
            State::Written(value) => Some(value),
            State::Absent | State::Refused => None,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self.state, State::Absent)
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused)
    }

    /// Reports a mistake in this value.
    pub(super) fn refuse(
        &self,
        out: &mut Diagnostics<'_>,
        wrong: impl Into<String>,
        right: impl Into<String>,
    ) {
        out.refuse(&self.span, self.key.as_str(), wrong, right);
    }

    /// The value, or a report that it is missing.
    pub(super) fn required(&self, section: Section, out: &mut Diagnostics<'_>) -> Option<&T> {
        if self.is_absent() {
            let name = self.key.rsplit('.').next().unwrap_or_default();
            let right = match section.key(name).map(|key| key.default) {
                Some(keys::WhenAbsent::Required(example)) => format!("write {name} = {example}"),
                _ => format!("write {name}"),
            };
            self.refuse(out, "is missing", right);
        }
        self.written()
    }
}

impl<T> Field<T> {
    /// The same place, with what is made of the value.
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Field<U> {
        let state = match self.state {
            State::Absent => State::Absent,
            State::Refused => State::Refused,
            State::Written(value) => State::Written(make(value)),
        };
        Field {
            key: self.key,
            span: self.span,
            state,
        }
    }
}

impl<T: Clone> Field<T> {
    /// The value, or what it is when left out. Also stands in for a refused value, which nobody
    /// gets to see: the configuration is refused as a whole.
    pub(super) fn or(&self, default: T) -> T {
        self.written().cloned().unwrap_or(default)
    }
}

/// One table of the file, its keys known to be keys of its section.
pub(super) struct Table<'t> {
    /// Full path, for messages: `pool "logic".check`.
    pub(super) path: String,
    /// Place of the table or its header.
    pub(super) span: Range<usize>,
    section: Section,
    /// `None`: the table was left out.
    entries: Option<&'t DeTable<'t>>,
}

impl<'t> Table<'t> {
    /// Takes a table of the file and reports keys that its section does not have.
    pub(super) fn open(
        path: String,
        span: Range<usize>,
        section: Section,
        entries: &'t DeTable<'t>,
        out: &mut Diagnostics<'_>,
    ) -> Self {
        for key in entries
            .keys()
            .filter(|key| section.key(key.get_ref()).is_none())
        {
            let name = key.get_ref();
            let wrong = format!("is not a key of {}", section.title());
            out.refuse(
                &key.span(),
                format!("{path}.{}", bare(name)),
                wrong,
                meant(section, name),
            );
        }
        Self {
            path,
            span,
            section,
            entries: Some(entries),
        }
    }

    /// Stands for a table that the file does not have, inside one that it has.
    pub(super) fn absent(path: String, span: Range<usize>, section: Section) -> Self {
        Self {
            path,
            span,
            section,
            entries: None,
        }
    }

    /// Reads one key, reporting a value of the wrong type.
    pub(super) fn field<T: FromToml>(&self, name: &str, out: &mut Diagnostics<'_>) -> Field<T> {
        self.field_with(name, out, |value, _, _| T::from_toml(value.get_ref()))
    }

    /// Reads an array, each element with its place; elements of the wrong type are reported and
    /// left out.
    pub(super) fn list<T: FromToml>(
        &self,
        name: &str,
        out: &mut Diagnostics<'_>,
    ) -> Field<Vec<Field<T>>> {
        self.field_with(name, out, |value, key, out| {
            let elements = value.get_ref().as_array().ok_or_else(|| {
                Mistake::kind(value.get_ref(), "write an array of strings: [\"…\", \"…\"]")
            })?;
            Ok(elements
                .iter()
                .enumerate()
                .map(|(position, element)| {
                    let key = format!("{key}[{position}]");
                    read(element, key, out, |value, _, _| {
                        T::from_toml(value.get_ref())
                    })
                })
                .collect())
        })
    }

    /// The table under one key; reports anything that is none.
    pub(super) fn table(
        &self,
        name: &str,
        section: Section,
        out: &mut Diagnostics<'_>,
    ) -> Field<Table<'t>> {
        self.field_with(name, out, |value, key, out| match value.get_ref() {
            DeValue::Table(entries) => Ok(Table::open(
                key.to_owned(),
                value.span(),
                section,
                entries,
                out,
            )),
            other => Err(Mistake::kind(
                other,
                format!("write {name} = {{ key = value, … }}"),
            )),
        })
    }

    /// The tables under one key; reports anything that is none.
    pub(super) fn tables(
        &self,
        name: &str,
        section: Section,
        out: &mut Diagnostics<'_>,
    ) -> Field<Vec<Table<'t>>> {
        self.field_with(name, out, |value, key, out| {
            tables(key, value, section, out).ok_or_else(|| {
                let right = format!("write {name} = [{{ key = value, … }}, …]");
                Mistake::kind(value.get_ref(), right)
            })
        })
    }

    fn field_with<T>(
        &self,
        name: &str,
        out: &mut Diagnostics<'_>,
        from: impl FnOnce(&'t Spanned<DeValue<'t>>, &str, &mut Diagnostics<'_>) -> Result<T, Mistake>,
    ) -> Field<T> {
        debug_assert!(self.section.key(name).is_some(), "{name} is not in keys.rs");
        let key = format!("{}.{name}", self.path);
        match self.entries.and_then(|entries| entries.get(name)) {
            None => Field {
                key,
                span: self.span.clone(),
                state: State::Absent,
            },
            Some(value) => read(value, key, out, from),
        }
    }
}

fn read<'t, T>(
    value: &'t Spanned<DeValue<'t>>,
    key: String,
    out: &mut Diagnostics<'_>,
    from: impl FnOnce(&'t Spanned<DeValue<'t>>, &str, &mut Diagnostics<'_>) -> Result<T, Mistake>,
) -> Field<T> {
    let span = value.span();
    let state = match from(value, &key, out) {
        Ok(value) => State::Written(value),
        Err(Mistake { wrong, right }) => {
            out.refuse(&span, key.as_str(), wrong, right);
            State::Refused
        }
    };
    Field { key, span, state }
}

/// The tables of an array, each under the name that it gives itself; elements that are none are
/// reported. `None` if `value` is no array.
pub(super) fn tables<'t>(
    key: &str,
    value: &'t Spanned<DeValue<'t>>,
    section: Section,
    out: &mut Diagnostics<'_>,
) -> Option<Vec<Table<'t>>> {
    let elements = value.get_ref().as_array()?;
    let mut tables = Vec::new();
    for (position, element) in elements.iter().enumerate() {
        let Some(entries) = element.get_ref().as_table() else {
            let Mistake { wrong, right } =
                Mistake::kind(element.get_ref(), "write { key = value, … }");
            out.refuse(
                &element.span(),
                format!("{key} #{}", position + 1),
                wrong,
                right,
            );
            continue;
        };
        let name = entries.get("name").and_then(|name| name.get_ref().as_str());
        let label = name.map_or_else(|| format!("#{}", position + 1), shown);
        tables.push(Table::open(
            format!("{key} {label}"),
            element.span(),
            section,
            entries,
            out,
        ));
    }
    Some(tables)
}

/// What somebody may have meant by a key that the section does not have.
fn meant(section: Section, name: &str) -> String {
    let names = section.keys().iter().map(|key| key.name);
    if let Some(near) = nearest(name, names.clone()) {
        return format!("did you mean `{near}`?");
    }
    if let Some(home) = Section::ALL.iter().find(|other| other.key(name).is_some()) {
        return format!("`{name}` belongs to {}", home.title());
    }
    format!("its keys are {}", names.collect::<Vec<_>>().join(", "))
}
