//! The machine around the controller: power state, what switched it on, the watchdog.

use super::{APP, CHASSIS, Ipmi, Refusal, names};
use crate::formats::bytes::{le16, le32};
use crate::model::inventory::{Bmc, ChassisState, Watchdog};

fn name(list: &str, code: u8) -> Option<String> {
    names::known(list, code).map(str::to_owned)
}

/// Get Chassis Status (28.2) into the document.
pub(crate) fn status(ipmi: &mut Ipmi<'_>, bmc: &mut Bmc) -> Result<(), Refusal> {
    let data = ipmi.send(CHASSIS, 0x01, &[])?;
    read_status(&data, bmc).ok_or(Refusal::Short)
}

fn read_status(data: &[u8], bmc: &mut Bmc) -> Option<()> {
    let [power, last, misc, rest @ ..] = data else {
        return None;
    };
    bmc.chassis_power_on = Some(power & 1 == 1);
    bmc.power_restore_policy = name("power restore policy", power >> 5 & 3);
    let mut faults = names::set("power fault", *power);
    faults.extend(names::set("chassis fault", *misc));
    bmc.chassis = Some(ChassisState {
        faults,
        last_power_events: names::set("power event", *last),
        identify: name("identify", misc >> 4 & 3).filter(|_| misc & 0x40 != 0),
        disabled_buttons: names::set("disabled button", rest.first().copied().unwrap_or(0)),
    });
    Some(())
}

/// Get System Restart Cause (28.11).
pub(crate) fn restart_cause(ipmi: &mut Ipmi<'_>) -> Result<String, Refusal> {
    let data = ipmi.send(CHASSIS, 0x07, &[])?;
    let cause = data.first().ok_or(Refusal::Short)? & 0x0f;
    Ok(restart_cause_text(cause))
}

/// What restarted the machine.
pub(crate) fn restart_cause_text(cause: u8) -> String {
    names::name_or("restart cause", cause, || "reserved".to_owned())
}

/// Get POH Counter (28.14), in whole hours.
pub(crate) fn power_on_hours(ipmi: &mut Ipmi<'_>) -> Result<u32, Refusal> {
    let data = ipmi.send(CHASSIS, 0x0f, &[])?;
    let minutes = data.first().copied().ok_or(Refusal::Short)?;
    let count = le32(&data, 1).ok_or(Refusal::Short)?;
    Ok(u32::try_from(u64::from(count) * u64::from(minutes) / 60).unwrap_or(u32::MAX))
}

/// Get Watchdog Timer (27.7).
pub(crate) fn watchdog(ipmi: &mut Ipmi<'_>) -> Result<Watchdog, Refusal> {
    read_watchdog(&ipmi.send(APP, 0x25, &[])?).ok_or(Refusal::Short)
}

fn read_watchdog(data: &[u8]) -> Option<Watchdog> {
    let (timer, action) = (*data.first()?, *data.get(1)?);
    // Counted in tenths of a second.
    let period = |at: usize| le16(data, at).map(|tenths| u32::from(tenths) * 100);
    Some(Watchdog {
        running: timer & 0x40 != 0,
        timer_use: name("watchdog use", timer & 7),
        action: name("watchdog action", action & 7),
        initial_ms: period(4),
        present_ms: period(6),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::linked;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_chassis_tells_what_is_wrong() {
        let mut bmc = Bmc::default();
        // On, power fault, previous; last event ac failed and command; intrusion and cooling fault, identify on;
        // the power button is off.
        read_status(&[0x29, 0x11, 0x69, 0x01], &mut bmc).unwrap();
        assert_eq!(bmc.chassis_power_on, Some(true));
        assert_eq!(bmc.power_restore_policy.as_deref(), Some("previous"));
        let chassis = bmc.chassis.unwrap();
        assert_eq!(chassis.faults, ["power fault", "intrusion", "cooling fault"]);
        assert_eq!(chassis.last_power_events, ["ac failed", "command"]);
        assert_eq!(chassis.identify.as_deref(), Some("on"));
        assert_eq!(chassis.disabled_buttons, ["power"]);
    }

    #[test]
    fn hours_and_watchdog() {
        let hours = linked(|_, _, _| Ok(vec![0, 60, 0x10, 0x27, 0, 0]), power_on_hours);
        assert_eq!(hours, Ok(10_000));
        let dog = read_watchdog(&[0x44, 0x01, 0, 0, 0xb0, 0x04, 0x58, 0x02]).unwrap();
        assert!(dog.running);
        assert_eq!(dog.timer_use.as_deref(), Some("sms/os"));
        assert_eq!(dog.action.as_deref(), Some("hard reset"));
        assert_eq!((dog.initial_ms, dog.present_ms), (Some(120_000), Some(60_000)));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..12)) {
            prop_assert_eq!(read_status(&data, &mut Bmc::default()).is_some(), data.len() >= 3);
            prop_assert_eq!(read_watchdog(&data).is_some(), data.len() >= 2);
        }
    }
}
