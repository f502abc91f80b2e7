//! How far every machine came: a table of machines, with a row for each. Pure: events in, a table out; time is seconds since the
//! master started.

mod boot;
mod clashes;
mod identify;
mod images;
mod leads;
mod listing;
mod remembered;
mod reports;
mod rolling;
mod row;
#[cfg(test)]
mod tests;

pub use self::boot::LoaderReport;
pub use self::leads::NodeTable;
pub use self::listing::urgency;
