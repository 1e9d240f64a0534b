//! `export`: each form, read back, holds what the program did.

use std::path::Path;

use prevalence::{Context, Database, Metadata, Model};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::common::{code, filled, temporary, text, told, tool};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Shop {
    sold: u64,
}

#[derive(Clone, Serialize, Deserialize)]
enum Happened {
    Sold { item: String },
}

impl Model for Shop {
    type Event = Happened;
}

#[derive(Serialize, Deserialize)]
struct Sell {
    item: String,
    cents: i64,
    rate: f64,
    is_gift: bool,
    note: Option<String>,
    tags: Vec<u8>,
    huge: u128,
    /// A column of this name is there already.
    time: u32,
    never: Option<u8>,
}

impl prevalence::Command<Shop> for Sell {
    type Output = ();
    type Rejection = std::convert::Infallible;

    fn apply(
        self,
        shop: &mut Shop,
        context: &mut Context<'_, Shop>,
    ) -> Result<(), Self::Rejection> {
        shop.sold += 1;
        context.emit(Happened::Sold { item: self.item });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Close(u32);

impl prevalence::Command<Shop> for Close {
    type Output = ();
    type Rejection = std::convert::Infallible;

    fn apply(self, _: &mut Shop, _: &mut Context<'_, Shop>) -> Result<(), Self::Rejection> {
        Ok(())
    }
}

prevalence::commands! { Shop { 1 => Sell, 2 => Close } }

fn shop(path: &Path) {
    let shop = Database::<Shop>::builder().events(prevalence::Events::Stored).open(path).unwrap();
    for number in 0..5_u8 {
        let asked = Metadata { actor: "ann, \"a\"".to_owned(), ..Metadata::default() };
        let sell = Sell {
            item: format!("item\n{number}"),
            cents: i64::from(number) - 2,
            rate: f64::from(number) / 4.0,
            is_gift: number % 2 == 0,
            note: (number > 2).then(|| "a, b".to_owned()),
            tags: vec![number; 2],
            huge: u128::MAX - u128::from(number),
            time: number.into(),
            never: None,
        };
        shop.with_metadata(&asked).unwrap().execute(sell).unwrap();
        shop.execute(Close(number.into())).unwrap();
    }
    shop.close().unwrap();
}

/// Reads comma-separated values: rows of fields.
fn rows(csv: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut is_quoted) = (vec![], vec![], String::new(), false);
    let mut letters = csv.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => field.push(letters.next().unwrap()),
            '"' => is_quoted = !is_quoted,
            ',' | '\n' if !is_quoted => {
                row.push(std::mem::take(&mut field));
                if letter == '\n' {
                    rows.push(std::mem::take(&mut row));
                }
            }
            letter => field.push(letter),
        }
    }
    assert!(row.is_empty() && field.is_empty() && !is_quoted);
    rows
}

#[test]
fn lines_are_those_of_the_log() {
    let (directory, path) = temporary();
    filled(&path);
    let lines = text(&tool("log", &path, &["--json"]));
    assert_eq!(text(&tool("export", &path, &[])), lines);
    let file = directory.path().join("out.ndjson");
    std::fs::write(&file, "old").unwrap();
    let output = tool("export", &path, &["--output", file.to_str().unwrap()]);
    assert_eq!((code(&output), &*text(&output)), (0, ""));
    assert!(told(&output).starts_with("9 commands in "), "{}", told(&output));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), lines);
    let few = text(&tool("export", &path, &["--actor", "ann", "--from", "5"]));
    assert_eq!(few.lines().count(), 2);
    assert_eq!(code(&tool("export", &path, &["--actor", "nobody"])), 1);
}

#[test]
fn fields_of_one_command_are_columns() {
    let (_directory, path) = temporary();
    shop(&path);
    let all = rows(&text(&tool("export", &path, &["--format", "csv"])));
    let names = "sequence time actor request_id attributes tag command fields events is_redacted \
                 model_version undecoded";
    assert_eq!(all[0], names.split_whitespace().collect::<Vec<_>>());
    assert_eq!(all.len(), 11);
    assert_eq!((&*all[2][6], &*all[2][7], &*all[2][2]), ("Close", "0", ""));
    let fields: Value = serde_json::from_str(&all[1][7]).unwrap();
    assert_eq!((&fields["item"], &fields["cents"]), (&json!("item\n0"), &json!(-2)));
    let sold = rows(&text(&tool("export", &path, &["--format", "csv", "--command", "Sell"])));
    assert_eq!(
        sold[0][7..16],
        ["item", "cents", "rate", "is_gift", "note", "tags", "huge", "fields_time", "never"]
    );
    let huge = (u128::MAX - 4).to_string();
    assert_eq!(sold[5][7..16], ["item\n4", "2", "1", "true", "a, b", "[4,4]", &huge, "4", ""]);
    assert_eq!((&*sold[1][11], &*sold[5][2]), ("", "ann, \"a\""));
    let events: Value = serde_json::from_str(&sold[5][16]).unwrap();
    assert_eq!(events, json!([{ "Sold": { "item": "item\n4" } }]));
    // What is no struct has no fields.
    let closed = rows(&text(&tool("export", &path, &["--format", "csv", "--command", "Close"])));
    assert_eq!((&*closed[0][7], &*closed[5][7]), ("fields", "4"));
}

#[test]
fn an_export_has_its_file_when_it_is_whole_and_never_in_the_database() {
    let (directory, path) = temporary();
    filled(&path);
    let inside = path.join("schemas/out.csv");
    let output = tool("export", &path, &["--output", inside.to_str().unwrap()]);
    assert_eq!(code(&output), 2);
    assert!(told(&output).contains("in the directory of the database"), "{}", told(&output));
    let nowhere = directory.path().join("nowhere/out");
    assert_eq!(code(&tool("export", &path, &["--output", nowhere.to_str().unwrap()])), 3);
    // The last batch is damaged (the end of the run is noted behind it): what was there stays.
    let segment = path.join("journal/00000000000000000001.journal");
    let mut bytes = std::fs::read(&segment).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used - 100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let file = directory.path().join("out.csv");
    std::fs::write(&file, "old").unwrap();
    let arguments = ["--format", "csv", "--output", file.to_str().unwrap()];
    assert_eq!(code(&tool("export", &path, &arguments)), 3);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left over");
}

#[cfg(feature = "parquet")]
mod parquet {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::{Field, Row};

    use super::*;

    fn read(path: &Path, more: &[&str]) -> Vec<Row> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("out.parquet");
        let output = ["--format", "parquet", "--output", file.to_str().unwrap()];
        let output = tool("export", path, &[&output, more].concat());
        assert_eq!(code(&output), 0, "{}", told(&output));
        let reader = SerializedFileReader::new(std::fs::File::open(file).unwrap()).unwrap();
        reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_parquet_file_holds_the_same_with_types() {
        let (_directory, path) = temporary();
        shop(&path);
        let field = |row: &Row, name: &str| {
            let found = row.get_column_iter().find(|(known, _)| *known == name);
            found.unwrap_or_else(|| panic!("no {name}")).1.clone()
        };
        let sold = read(&path, &["--command", "Sell"]);
        assert_eq!(sold.len(), 5);
        let text = |text: &str| Field::Str(text.to_owned());
        let expected = [
            ("sequence", Field::ULong(9)),
            ("actor", text("ann, \"a\"")),
            ("command", text("Sell")),
            ("tag", Field::Long(1)),
            ("item", text("item\n4")),
            ("cents", Field::Long(2)),
            ("rate", Field::Double(1.0)),
            ("is_gift", Field::Bool(true)),
            ("note", text("a, b")),
            ("tags", text("[4,4]")),
            ("huge", text(&(u128::MAX - 4).to_string())),
            ("fields_time", Field::Long(4)),
            ("never", Field::Null),
            ("is_redacted", Field::Bool(false)),
            ("undecoded", Field::Null),
        ];
        for (name, value) in expected {
            assert_eq!(field(&sold[4], name), value, "{name}");
        }
        assert_eq!(field(&sold[0], "note"), Field::Null);
        let all = read(&path, &[]);
        assert_eq!((all.len(), field(&all[1], "fields")), (10, text("0")));
        let lines = text_of_log(&path);
        for (row, line) in all.iter().zip(lines) {
            let Field::Str(fields) = field(row, "fields") else { panic!("no text") };
            assert_eq!(serde_json::from_str::<Value>(&fields).unwrap(), line["fields"]);
            assert_eq!(field(row, "sequence"), Field::ULong(line["sequence"].as_u64().unwrap()));
        }
        let out = tool("export", &path, &["--format", "parquet"]);
        assert_eq!(code(&out), 2);
    }

    fn text_of_log(path: &Path) -> Vec<Value> {
        let lines = text(&tool("log", path, &["--json"]));
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
