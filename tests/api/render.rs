//! Renders rustdoc's JSON as lines of text.
//!
//! Leaves out what every type has (automatic and blanket implementations), documentation, and
//! hidden items.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

/// A crate as rustdoc describes it.
pub(crate) struct Crate {
    json: Value,
    lines: BTreeSet<String>,
}

impl Crate {
    pub(crate) fn new(json: Value) -> Self {
        Self {
            json,
            lines: BTreeSet::new(),
        }
    }

    /// Returns all public items, sorted.
    pub(crate) fn lines(mut self) -> Vec<String> {
        let root = self.json["root"].clone();
        let name = text(&self.item(&root)["name"]);
        self.module(&root, &name);
        self.lines.into_iter().collect()
    }

    fn item(&self, id: &Value) -> Value {
        let key = id.as_u64().map_or_else(|| text(id), |id| id.to_string());
        self.json["index"][key.as_str()].clone()
    }

    fn add(&mut self, line: String) {
        self.lines.insert(line);
    }

    fn module(&mut self, id: &Value, path: &str) {
        for child in list(&self.item(id)["inner"]["module"]["items"]) {
            let item = self.item(&child);
            self.named(&item, path, None);
        }
    }

    /// Renders an item of a module, under `name` if it is exported under another name than its own.
    fn named(&mut self, item: &Value, parent: &str, name: Option<&str>) {
        let Some((kind, inner)) = inner(item) else {
            return;
        };
        if kind == "use" {
            let target = self.item(&inner["id"]);
            let name = text(&inner["name"]);
            return self.named(&target, parent, Some(&name));
        }
        let own = text(&item["name"]);
        let path = format!("{parent}::{}", name.unwrap_or(&own));
        match kind.as_str() {
            "module" => {
                self.add(format!("pub mod {path}"));
                self.module(&item["id"], &path);
            }
            "struct" => self.structure(&inner, &path, item),
            "enum" => self.enumeration(&inner, &path, item),
            "trait" => self.interface(&inner, &path),
            "function" => {
                let line = function(&inner, &path);
                self.add(line);
            }
            "type_alias" => self.add(format!(
                "pub type {path}{} = {}",
                generics(&inner["generics"]),
                type_of(&inner["type"])
            )),
            other => self.add(format!("pub {other} {path}")),
        }
    }

    fn structure(&mut self, inner: &Value, path: &str, item: &Value) {
        let head = generics(&inner["generics"]);
        self.add(format!("pub struct {path}{head}{}", attributes(item)));
        for field in list(&inner["kind"]["plain"]["fields"]) {
            self.field(&field, path);
        }
        for field in list(&inner["kind"]["tuple"]) {
            self.field(&field, path);
        }
        self.implementations(&inner["impls"], path);
    }

    fn field(&mut self, id: &Value, path: &str) {
        let field = self.item(id);
        if field.is_null() {
            return;
        }
        let (name, kind) = (text(&field["name"]), &field["inner"]["struct_field"]);
        self.add(format!("pub {path}::{name}: {}", type_of(kind)));
    }

    fn enumeration(&mut self, inner: &Value, path: &str, item: &Value) {
        let head = generics(&inner["generics"]);
        self.add(format!("pub enum {path}{head}{}", attributes(item)));
        for id in list(&inner["variants"]) {
            let variant = self.item(&id);
            let kind = &variant["inner"]["variant"]["kind"];
            let mut line = format!("pub {path}::{}", text(&variant["name"]));
            let fields: Vec<_> = list(&kind["struct"]["fields"])
                .iter()
                .map(|id| self.item(id))
                .map(|field| {
                    let kind = type_of(&field["inner"]["struct_field"]);
                    format!("{}: {kind}", text(&field["name"]))
                })
                .collect();
            let values: Vec<_> = list(&kind["tuple"])
                .iter()
                .map(|id| type_of(&self.item(id)["inner"]["struct_field"]))
                .collect();
            if !fields.is_empty() {
                line += &format!(" {{ {} }}", fields.join(", "));
            } else if !values.is_empty() {
                line += &format!("({})", values.join(", "));
            }
            self.add(line);
        }
        self.implementations(&inner["impls"], path);
    }

    fn interface(&mut self, inner: &Value, path: &str) {
        let head = generics(&inner["generics"]);
        let above = bounds(&inner["bounds"]);
        self.add(format!("pub trait {path}{head}{}", prefixed(": ", &above)));
        for id in list(&inner["items"]) {
            self.member(&id, path);
        }
    }

    /// Renders a method, constant or type of an implementation or a trait.
    fn member(&mut self, id: &Value, path: &str) {
        let member = self.item(id);
        let Some((kind, inner)) = inner(&member) else {
            return;
        };
        let path = format!("{path}::{}", text(&member["name"]));
        match kind.as_str() {
            "function" => {
                let line = function(&inner, &path);
                let provided = if inner["has_body"] == true { "" } else { ";" };
                self.add(line + provided);
            }
            "assoc_const" => self.add(format!("pub const {path}: {}", type_of(&inner["type"]))),
            _ => self.add(format!("pub type {path}")),
        }
    }

    fn implementations(&mut self, impls: &Value, path: &str) {
        for id in list(impls) {
            let item = self.item(&id);
            let Some((_, inner)) = inner(&item) else {
                continue;
            };
            if inner["is_synthetic"] == true || !inner["blanket_impl"].is_null() {
                continue;
            }
            if inner["trait"].is_null() {
                for member in list(&inner["items"]) {
                    self.member(&member, path);
                }
                continue;
            }
            let name = path_of(&inner["trait"]);
            if name.starts_with("Structural") {
                continue;
            }
            let whose = type_of(&inner["for"]);
            let head = generics(&inner["generics"]);
            self.add(format!("impl{head} {name} for {whose} ({path})"));
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn prefixed(prefix: &str, rest: &str) -> String {
    match rest {
        "" => String::new(),
        rest => format!("{prefix}{rest}"),
    }
}

/// Returns the kind of an item, and its description.
fn inner(item: &Value) -> Option<(String, Value)> {
    let (kind, inner) = item["inner"].as_object()?.iter().next()?;
    Some((kind.clone(), inner.clone()))
}

fn attributes(item: &Value) -> &'static str {
    if item["attrs"].to_string().contains("non_exhaustive") {
        " #[non_exhaustive]"
    } else {
        ""
    }
}

fn function(inner: &Value, path: &str) -> String {
    let mut line = String::from("pub ");
    for (key, word) in [("is_const", "const "), ("is_unsafe", "unsafe ")] {
        if inner["header"][key] == true {
            line += word;
        }
    }
    let arguments: Vec<_> = list(&inner["sig"]["inputs"])
        .iter()
        .map(|argument| {
            let (name, kind) = (text(&argument[0]), type_of(&argument[1]));
            match (name.as_str(), kind.as_str()) {
                ("self", "Self") => "self".to_owned(),
                ("self", "&Self") => "&self".to_owned(),
                ("self", "&mut Self") => "&mut self".to_owned(),
                _ => format!("{name}: {kind}"),
            }
        })
        .collect();
    let output = &inner["sig"]["output"];
    let output = if output.is_null() {
        String::new()
    } else {
        format!(" -> {}", type_of(output))
    };
    let head = generics(&inner["generics"]);
    let _ = write!(line, "fn {path}{head}({}){output}", arguments.join(", "));
    line + &prefixed(" where ", &conditions(&inner["generics"]))
}

/// Renders parameters in angle brackets, but not those that stand for an `impl Trait`.
fn generics(value: &Value) -> String {
    let parameters: Vec<_> = list(&value["params"])
        .iter()
        .filter(|parameter| parameter["kind"]["type"]["is_synthetic"] != true)
        .map(|parameter| {
            let name = text(&parameter["name"]);
            name + &prefixed(": ", &bounds(&parameter["kind"]["type"]["bounds"]))
        })
        .collect();
    match parameters.is_empty() {
        true => String::new(),
        false => format!("<{}>", parameters.join(", ")),
    }
}

fn conditions(value: &Value) -> String {
    let all: Vec<_> = list(&value["where_predicates"])
        .iter()
        .filter_map(|condition| {
            let condition = &condition["bound_predicate"];
            let bounds = bounds(&condition["bounds"]);
            (!condition.is_null()).then(|| format!("{}: {bounds}", type_of(&condition["type"])))
        })
        .collect();
    all.join(", ")
}

fn bounds(value: &Value) -> String {
    let all: Vec<_> = list(value)
        .iter()
        .map(|bound| match &bound["trait_bound"] {
            Value::Null => text(&bound["outlives"]),
            bound => {
                let modifier = if bound["modifier"] == "maybe" {
                    "?"
                } else {
                    ""
                };
                format!("{modifier}{}", path_of(&bound["trait"]))
            }
        })
        .collect();
    all.join(" + ")
}

/// Renders a path's last name with its arguments.
fn path_of(value: &Value) -> String {
    let path = match text(&value["path"]) {
        path if path.is_empty() => text(&value["name"]),
        path => path,
    };
    let name = path.rsplit("::").next().unwrap_or_default();
    format!("{name}{}", arguments(&value["args"]))
}

fn arguments(value: &Value) -> String {
    let angle = &value["angle_bracketed"];
    let mut all: Vec<_> = list(&angle["args"])
        .iter()
        .map(|argument| match inner_of(argument) {
            (kind, name) if kind == "lifetime" => text(&name),
            (kind, inner) if kind == "type" => type_of(&inner),
            (_, inner) => text(&inner["expr"]),
        })
        .collect();
    for constraint in list(&angle["constraints"]) {
        let equal = &constraint["binding"]["equality"]["type"];
        all.push(format!(
            "{} = {}",
            text(&constraint["name"]),
            type_of(equal)
        ));
    }
    if !all.is_empty() {
        return format!("<{}>", all.join(", "));
    }
    let round = &value["parenthesized"];
    if round.is_null() {
        return String::new();
    }
    let inputs: Vec<_> = list(&round["inputs"]).iter().map(type_of).collect();
    let output = &round["output"];
    let output = if output.is_null() {
        String::new()
    } else {
        format!(" -> {}", type_of(output))
    };
    format!("({}){output}", inputs.join(", "))
}

fn inner_of(value: &Value) -> (String, Value) {
    value
        .as_object()
        .and_then(|object| object.iter().next())
        .map(|(kind, inner)| (kind.clone(), inner.clone()))
        .unwrap_or_default()
}

fn type_of(value: &Value) -> String {
    let (kind, inner) = inner_of(value);
    match kind.as_str() {
        "resolved_path" => path_of(&inner),
        "generic" | "primitive" => text(&inner),
        "tuple" => {
            let all: Vec<_> = list(&inner).iter().map(type_of).collect();
            format!("({})", all.join(", "))
        }
        "slice" => format!("[{}]", type_of(&inner)),
        "array" => format!("[{}; {}]", type_of(&inner["type"]), text(&inner["len"])),
        "impl_trait" => format!("impl {}", bounds(&inner)),
        "dyn_trait" => {
            let traits = list(&inner["traits"]);
            let all: Vec<_> = traits.iter().map(|one| path_of(&one["trait"])).collect();
            format!("dyn {}", all.join(" + "))
        }
        "borrowed_ref" => {
            let mutable = if inner["is_mutable"] == true {
                "mut "
            } else {
                ""
            };
            let lifetime = text(&inner["lifetime"]);
            let lifetime = prefixed("", &lifetime);
            let space = if lifetime.is_empty() { "" } else { " " };
            format!("&{lifetime}{space}{mutable}{}", type_of(&inner["type"]))
        }
        "qualified_path" => format!("{}::{}", type_of(&inner["self_type"]), text(&inner["name"])),
        "function_pointer" => {
            let signature = &inner["sig"];
            let inputs: Vec<_> = list(&signature["inputs"])
                .iter()
                .map(|input| type_of(&input[1]))
                .collect();
            format!(
                "fn({}) -> {}",
                inputs.join(", "),
                type_of(&signature["output"])
            )
        }
        other => format!("{other} {inner}"),
    }
}
