//! Owns a table of commands as a Parquet file. Knows nothing of how its columns were found.

use std::fmt::Write as _;
use std::fs::File;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use prevalence::inspect::Inspection;

use super::each_row;
use super::table::{Cell, Columns, Kind, Table};
use crate::arguments::Chosen;
use crate::failure::Failure;

impl From<ParquetError> for Failure {
    fn from(error: ParquetError) -> Self {
        Self::Output(std::io::Error::other(error))
    }
}

/// Writes the chosen commands into a file. Returns how many there are.
pub fn write(chosen: &Chosen, look: &Inspection, file: &File) -> Result<u64, Failure> {
    let columns = Columns::of(look, chosen)?;
    let all = columns.all();
    let schema = Arc::new(parse_message_type(&schema(&all))?);
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
    let exported = each_row(look, chosen, columns, &mut |table| {
        let mut group = writer.next_row_group()?;
        for (number, (_, kind)) in all.iter().enumerate() {
            let column = group.next_column()?.ok_or_else(|| {
                Failure::Output(std::io::Error::other("the table has fewer columns than names"))
            })?;
            write_column(column, table, number, *kind)?;
        }
        group.close()?;
        Ok(())
    })?;
    writer.close()?;
    Ok(exported)
}

/// Returns the schema as Parquet writes it. Every place may be empty.
fn schema(columns: &[(String, Kind)]) -> String {
    let mut text = "message commands {\n".to_owned();
    for (name, kind) in columns {
        // Parquet's own text form has no quotes.
        let is_plain = |it: char| it.is_alphanumeric() || it == '_';
        let name: String = name.chars().map(|it| if is_plain(it) { it } else { '_' }).collect();
        let of = match kind {
            Kind::Unsigned => format!("INT64 {name} (INTEGER(64, false))"),
            Kind::Integer => format!("INT64 {name}"),
            Kind::Float => format!("DOUBLE {name}"),
            Kind::Truth => format!("BOOLEAN {name}"),
            Kind::Text => format!("BYTE_ARRAY {name} (UTF8)"),
            Kind::Json => format!("BYTE_ARRAY {name} (JSON)"),
            Kind::Time => format!("INT64 {name} (TIMESTAMP(NANOS, true))"),
        };
        writeln!(text, "optional {of};").ok(); // a text takes everything
    }
    text + "}"
}

fn write_column(
    mut column: SerializedColumnWriter<'_>,
    table: &Table,
    number: usize,
    kind: Kind,
) -> Result<(), Failure> {
    let cells = || table.rows().iter().filter_map(|row| row.get(number));
    let levels: Vec<i16> = cells().map(|cell| i16::from(*cell != Cell::Empty)).collect();
    let levels = Some(&*levels);
    match column.untyped() {
        ColumnWriter::Int64ColumnWriter(writer) => {
            let values: Vec<i64> = cells().filter_map(integer).collect();
            writer.write_batch(&values, levels, None)?;
        }
        ColumnWriter::DoubleColumnWriter(writer) => {
            let float = |cell: &Cell| if let Cell::Float(it) = cell { Some(*it) } else { None };
            writer.write_batch(&cells().filter_map(float).collect::<Vec<_>>(), levels, None)?;
        }
        ColumnWriter::BoolColumnWriter(writer) => {
            let truth = |cell: &Cell| if let Cell::Truth(it) = cell { Some(*it) } else { None };
            writer.write_batch(&cells().filter_map(truth).collect::<Vec<_>>(), levels, None)?;
        }
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            let text = |cell: &Cell| match cell {
                Cell::Text(text) => Some(ByteArray::from(text.as_str())),
                _ => None,
            };
            writer.write_batch(&cells().filter_map(text).collect::<Vec<_>>(), levels, None)?;
        }
        _ => {
            let reason = format!("there is no column for {kind:?}");
            return Err(Failure::Output(std::io::Error::other(reason)));
        }
    }
    column.close()?;
    Ok(())
}

/// Returns a number in the 64 bits that it has in the file.
fn integer(cell: &Cell) -> Option<i64> {
    match cell {
        Cell::Integer(number) => Some(*number),
        Cell::Unsigned(number) => Some(number.cast_signed()),
        // A time behind the year 2262 has no such number.
        Cell::Time(at) => Some(
            at.duration_since(UNIX_EPOCH)
                .ok()
                .and_then(|since| i64::try_from(since.as_nanos()).ok())
                .unwrap_or(i64::MAX),
        ),
        _ => None,
    }
}
