//! Reads the tables of `docs/format.md`.
//!
//! Parses Markdown tables and the arithmetic in them. Calls no other module.

/// A table's rows, each with the names of its columns.
#[derive(Clone, Debug)]
pub(super) struct Row(Vec<(String, String)>);

impl Row {
    /// The cell in a column; a table without that column fails the test.
    pub(super) fn get(&self, column: &str) -> &str {
        match self.0.iter().find(|(name, _)| name == column) {
            Some((_, cell)) => cell,
            None => panic!("a table without the column {column}: {self:?}"),
        }
    }
}

/// All tables, each with the heading above it; a second one under a heading is `heading#2`.
pub(super) struct Document(Vec<(String, Vec<Row>)>);

impl Document {
    pub(super) fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/format.md");
        let text = std::fs::read_to_string(path).unwrap();
        let mut tables: Vec<(String, Vec<Row>)> = Vec::new();
        let (mut heading, mut columns) = (String::new(), None);
        for line in text.lines() {
            if let Some(title) = line.strip_prefix('#') {
                heading = title.trim_start_matches('#').trim().to_owned();
            }
            let Some(cells) = cells(line) else {
                columns = None;
                continue;
            };
            match &columns {
                None => {
                    let before = tables
                        .iter()
                        .filter(|(title, _)| title.split('#').next() == Some(&heading));
                    let title = match before.count() {
                        0 => heading.clone(),
                        count => format!("{heading}#{}", count + 1),
                    };
                    tables.push((title, Vec::new()));
                    columns = Some(cells);
                }
                Some(_) if cells.iter().all(|cell| cell.chars().all(|c| c == '-')) => {}
                Some(names) => {
                    assert_eq!(
                        names.len(),
                        cells.len(),
                        "a row with another number of cells: {line}"
                    );
                    let row = Row(names.iter().cloned().zip(cells).collect());
                    tables.last_mut().unwrap().1.push(row);
                }
            }
        }
        Self(tables)
    }

    pub(super) fn table(&self, title: &str) -> Vec<Row> {
        match self.0.iter().find(|(known, _)| known == title) {
            Some((_, rows)) => rows.clone(),
            None => panic!("docs/format.md has no table under \"{title}\""),
        }
    }

    pub(super) fn titles(&self) -> Vec<&str> {
        let mut titles: Vec<_> = self.0.iter().map(|(title, _)| title.as_str()).collect();
        titles.sort_unstable();
        titles
    }
}

fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(
        inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect(),
    )
}

/// Evaluates an expression such as `64 + R * (48 + K)`, with the values of its variables.
pub(super) fn evaluate(text: &str, variables: &[(&str, u64)]) -> u64 {
    let mut parser = Parser {
        rest: text,
        variables,
    };
    let value = parser.sum();
    assert!(
        parser.rest.trim().is_empty(),
        "{text}: cannot be read at {:?}",
        parser.rest
    );
    value
}

struct Parser<'a> {
    rest: &'a str,
    variables: &'a [(&'a str, u64)],
}

impl Parser<'_> {
    fn eat(&mut self, token: char) -> bool {
        let rest = self.rest.trim_start();
        let found = rest.strip_prefix(token);
        self.rest = found.unwrap_or(rest);
        found.is_some()
    }

    fn sum(&mut self) -> u64 {
        let mut value = self.product();
        loop {
            if self.eat('+') {
                value += self.product();
            } else if self.eat('-') {
                value -= self.product();
            } else {
                return value;
            }
        }
    }

    fn product(&mut self) -> u64 {
        let mut value = self.atom();
        while self.eat('*') {
            value *= self.atom();
        }
        value
    }

    fn atom(&mut self) -> u64 {
        if self.eat('(') {
            let value = self.sum();
            assert!(self.eat(')'), "an open bracket before {:?}", self.rest);
            return value;
        }
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        match name {
            "line" => self.atom().next_multiple_of(64),
            "word" => self.atom().next_multiple_of(8),
            _ => match self.variables.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => *value,
                None => name
                    .parse()
                    .unwrap_or_else(|_| panic!("neither a number nor known: {name:?}")),
            },
        }
    }
}

#[test]
fn document_expressions_are_evaluated() {
    let variables = [("R", 16), ("B", 8)];
    assert_eq!(
        evaluate("64 + R * (48 + B) - 2", &variables),
        64 + 16 * 56 - 2
    );
    assert_eq!(evaluate("line(1) + word(B + 1)", &variables), 64 + 16);
}
