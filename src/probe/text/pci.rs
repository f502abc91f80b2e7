//! Buses for people: what stands out, not every function.

use super::Page;
use crate::model::inventory::{Gpu, PciFunction, UsbDevice};

pub(super) fn functions(_page: &mut Page, _functions: &Vec<PciFunction>) {}
pub(super) fn usb(_page: &mut Page, _devices: &Vec<UsbDevice>) {}
pub(super) fn gpus(_page: &mut Page, _gpus: &Vec<Gpu>) {}
