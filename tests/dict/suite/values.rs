//! Values: what the formats can express, and the errors for other values.

use std::collections::{BTreeMap, HashMap};

use mmapcache::Update;
use mmapcache::dict::{Condition, DictError, Format, Result, Retrieve};
use serde::{Deserialize, Serialize};

use super::{fresh, in_format};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(u8),
    Tuple(i64, String),
    Struct {
        name: String,
        points: Vec<(f64, f32)>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    shapes: Vec<Shape>,
    text: String,
    present: Option<u64>,
    absent: Option<u64>,
    table: BTreeMap<String, Vec<i32>>,
    large: (u64, i64, u128),
    character: char,
    flag: bool,
    unit: (),
}

fn everything() -> Everything {
    let points = vec![(0.1 + 0.2, 0.3), (-0.0, f32::MIN_POSITIVE), (1e300, 1e30)];
    Everything {
        shapes: vec![
            Shape::Unit,
            Shape::Newtype(255),
            Shape::Tuple(-1, "ä\u{0}\n\"\\".to_owned()),
            Shape::Struct {
                name: String::new(),
                points,
            },
        ],
        text: "日本語 🦀".to_owned(),
        present: Some(0),
        absent: None,
        table: BTreeMap::from([
            ("with / and .".to_owned(), vec![1, -1]),
            (String::new(), vec![]),
        ]),
        large: (u64::MAX, i64::MIN, 1 << 80),
        character: '🦀',
        flag: true,
        unit: (),
    }
}

// Point 9. Values of every shape are read back in both formats.
#[test]
fn values_of_every_shape_return() -> Result<()> {
    for format in Format::ALL {
        let dict = in_format(format);
        dict.insert("k", everything())?;
        assert_eq!(dict.get("k")?, Some(everything()), "{format}");
    }
    Ok(())
}

// Point 9.
#[test]
fn large_and_empty_values_return() -> Result<()> {
    for format in Format::ALL {
        let dict = in_format(format);
        for len in [0, 1, 100_000] {
            dict.insert("k", "x".repeat(len))?;
            assert_eq!(
                dict.get("k")?.map(|value| value.len()),
                Some(len),
                "{format}"
            );
        }
    }
    Ok(())
}

// Point 9.
#[test]
fn formats_are_separate_namespaces() -> Result<()> {
    let json = in_format::<u32>(Format::Json);
    let packed = json.with_format::<String>(Format::MessagePack);
    json.insert("k", 1)?;
    assert_eq!(packed.get("k")?, None);
    packed.insert("k", "one".to_owned())?;
    packed.insert("l", "two".to_owned())?;
    assert_eq!((json.len()?, packed.len()?), (1, 2));
    assert_eq!(json.get("k")?, Some(1));
    assert!(packed.remove("k")?);
    assert_eq!(json.get("k")?, Some(1));
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    name: String,
    size: u32,
}

/// The same type with its fields in another order, and one more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct New {
    #[serde(default)]
    colour: Option<String>,
    size: u32,
    name: String,
}

// Point 9. A type may gain fields with defaults, and reorder them.
#[test]
fn types_may_gain_defaulted_fields() -> Result<()> {
    for format in Format::ALL {
        let old = in_format::<Old>(format);
        let new = old.with_format::<New>(format);
        let (name, size) = ("n".to_owned(), 7);
        old.insert(
            "k",
            Old {
                name: name.clone(),
                size,
            },
        )?;
        let colour = None;
        assert_eq!(new.get("k")?, Some(New { colour, size, name }), "{format}");
    }
    Ok(())
}

// Point 10. A value of another type is an error, and stays.
#[test]
fn wrong_type_is_an_error() -> Result<()> {
    let texts = fresh::<String>();
    let numbers = texts.with_format::<u32>(Format::Json);
    texts.insert(["a", "b"], "one".to_owned())?;
    let error = numbers.get(["a", "b"]).unwrap_err();
    let DictError::Decode {
        key,
        format,
        type_name,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(key.as_str(), "a/b");
    assert_eq!((*format, *type_name), (Format::Json, "u32"));
    assert!(!error.is_corruption());

    assert!(numbers.contains(["a", "b"])?);
    assert!(numbers.etag(["a", "b"])?.is_some());
    assert!(numbers.iter().next().expect("an item").is_err());
    assert!(numbers.take(["a", "b"]).is_err());
    assert!(numbers.get_or_insert(["a", "b"], 1).is_err());
    assert!(numbers.update(["a", "b"], |_| Update::Put(1)).is_err());
    assert_eq!(texts.get(["a", "b"])?.as_deref(), Some("one"), "as it was");

    numbers.insert(["a", "b"], 1)?;
    assert_eq!(numbers.get(["a", "b"])?, Some(1), "it can be replaced");
    texts.insert("c", String::new())?;
    assert!(numbers.remove("c")?, "and deleted");
    Ok(())
}

/// A map that JSON cannot express, unless it is empty.
type ByPair = HashMap<(u8, u8), u8>;

// Point 10. A value that the format cannot express is refused, and changes nothing.
#[test]
fn inexpressible_value_is_refused() -> Result<()> {
    let dict = fresh::<ByPair>();
    let bad = || ByPair::from([((1, 2), 3)]);
    let etag = dict.insert("k", ByPair::new())?;
    let refused = |error: DictError| {
        let DictError::Encode { key, .. } = &error else {
            panic!("{error}");
        };
        key.as_str().to_owned()
    };
    assert_eq!(refused(dict.insert("k", bad()).unwrap_err()), "k");
    assert_eq!(
        refused(dict.get_or_insert("new", bad()).unwrap_err()),
        "new"
    );
    assert_eq!(refused(dict.extend([("k", bad())]).unwrap_err()), "k");
    assert_eq!(
        refused(dict.update("k", |_| Update::Put(bad())).unwrap_err()),
        "k"
    );
    let (write, any, never) = (Update::Put(bad()), Condition::Any, Retrieve::Never);
    let refusal = dict.set_if("k", write, any, None, never).unwrap_err();
    assert_eq!(refused(refusal), "k");

    assert_eq!(dict.etag("k")?, Some(etag));
    assert_eq!(dict.len()?, 1);
    let packed = in_format(Format::MessagePack);
    packed.insert("k", bad())?;
    assert_eq!(packed.get("k")?, Some(bad()), "the other format can");
    Ok(())
}

// Point 10.
#[test]
fn outside_changes_never_reach_items() -> Result<()> {
    let dict = fresh();
    let mut value = vec![1, 2, 3];
    dict.insert("k", value.clone())?;
    value.push(4);
    let mut read = dict.require("k")?;
    read.clear();
    assert_eq!(dict.get("k")?, Some(vec![1, 2, 3]));
    Ok(())
}

/// Numbers in every kind of place of serde's data model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Places {
    Newtype(f64),
    Tuple(u8, f32),
    Struct { number: Option<f64> },
    Within(Vec<(BTreeMap<String, Wrapped>, Pair)>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(f64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pair(f64, ());

fn places(number: f64) -> [Places; 5] {
    let within = |inner, outer| {
        let table = BTreeMap::from([("k".to_owned(), Wrapped(inner))]);
        Places::Within(vec![(table, Pair(outer, ()))])
    };
    let optional = Some(number);
    [
        Places::Newtype(number),
        Places::Tuple(0, number as f32),
        Places::Struct { number: optional },
        within(number, 0.5),
        within(0.5, number),
    ]
}

// Point 10. No number that JSON cannot express is stored as something else.
#[test]
fn non_finite_numbers_are_refused() -> Result<()> {
    let json = fresh();
    let packed = json.with_format::<Places>(Format::MessagePack);
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for value in places(number) {
            let refusal = json.insert("k", value.clone()).unwrap_err();
            let DictError::Encode { source, .. } = &refusal else {
                panic!("{refusal}");
            };
            let said = format!("cannot express the number {number}");
            assert!(source.to_string().contains(&said), "{source}");
            packed.insert("k", value.clone())?;
            let read = packed.require("k")?;
            assert_eq!(
                format!("{read:?}"),
                format!("{value:?}"),
                "the other format can"
            );
        }
    }
    for value in places(f64::MAX / 1e280) {
        json.insert("k", value.clone())?;
        assert_eq!(json.get("k")?, Some(value));
    }
    let absent = Places::Struct { number: None };
    json.insert("k", absent.clone())?;
    assert_eq!(json.get("k")?, Some(absent), "a valid `null`");
    Ok(())
}

/// A value within itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Nested {
    Leaf,
    List(Vec<Nested>),
    Within(Box<Nested>),
}

/// Returns nested lists, with nested variants in the innermost.
fn nested(lists: u32, variants: u32) -> Nested {
    let within = (0..variants).fold(Nested::Leaf, |inner, _| Nested::Within(inner.into()));
    (0..lists).fold(within, |inner, _| Nested::List(vec![inner]))
}

// Point 10. A value that is nested too deeply to be read is refused.
#[test]
fn deeply_nested_values_are_refused() -> Result<()> {
    for format in Format::ALL {
        let dict = in_format(format);
        // A list is a level in its variant, which is another.
        for deepest in [nested(63, 1), nested(0, 127), nested(10, 107)] {
            dict.insert("k", deepest.clone())?;
            assert_eq!(dict.get("k")?, Some(deepest), "{format}");
        }
        for deeper in [
            nested(64, 0),
            nested(63, 2),
            nested(0, 128),
            nested(0, 1_000),
        ] {
            let refusal = dict.insert("k", deeper).unwrap_err();
            let DictError::Encode { .. } = refusal else {
                panic!("{format}: {refusal}");
            };
        }
        let wide = Nested::List(vec![nested(2, 2); 1_000]);
        dict.insert("k", wide.clone())?;
        assert_eq!(dict.get("k")?, Some(wide), "{format}: wide is not deep");
    }
    Ok(())
}

// Point 10.
#[test]
fn numbers_keep_their_last_bit() -> Result<()> {
    for format in Format::ALL {
        let dict = in_format::<Vec<f64>>(format);
        let numbers: Vec<f64> = (0..2_000)
            .map(|n| f64::from(n) * 0.123456789 + 0.1)
            .collect();
        dict.insert("k", numbers.clone())?;
        assert_eq!(dict.get("k")?, Some(numbers));
    }
    Ok(())
}
