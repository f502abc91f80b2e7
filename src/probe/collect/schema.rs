//! The JSON Schema of the inventory document, made from the types. Pure.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::model::inventory::Inventory;

/// Keyword of a field that identifies a machine, a network or a person; `--redact` hides those.
pub(crate) const SENSITIVE: &str = "x-sensitive";

/// JSON Schema (draft 2020-12) of what is written: every field is there, `null` where the machine does not tell.
pub(crate) fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<Inventory>().to_value();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("title".to_owned(), "recon inventory".into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::golden;
    use std::path::Path;

    /// A changed meaning wants a new schema version.
    #[test]
    fn the_schema_in_the_tree_is_that_of_the_types() {
        let now = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        golden("schema/inventory.schema.json", &now);
    }

    #[test]
    fn every_golden_inventory_is_valid_and_damage_is_not() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let machines = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/machines");
        let mut seen = 0;
        for entry in std::fs::read_dir(machines).unwrap() {
            let Ok(text) = std::fs::read_to_string(entry.unwrap().path().join("expected.json")) else {
                continue;
            };
            seen += 1;
            let mut document: Value = serde_json::from_str(&text).unwrap();
            let problems: Vec<String> = validator
                .iter_errors(&document)
                .map(|error| error.to_string())
                .collect();
            assert_eq!(problems, Vec::<String>::new());
            document["system"]["status"] = "splendid".into();
            assert!(!validator.is_valid(&document));
        }
        assert!(seen >= 2, "the golden files are gone");
    }
}
