//! Users of the controller: names and privileges. Passwords cannot be read.

use std::collections::BTreeMap;

use super::{APP, Ipmi, Refusal, names};
use crate::formats::text::{clean, decoded};
use crate::model::inventory::BmcUser;

/// The specification has room for 63 (22.27).
const MAX_USERS: u8 = 63;

/// Get User Access and Get User Name (22.27, 22.29) for one channel. `names` remembers what was asked: names are the
/// same on all channels.
pub(crate) fn of_channel(
    ipmi: &mut Ipmi<'_>,
    channel: u8,
    names: &mut BTreeMap<u8, Option<String>>,
) -> Result<Vec<BmcUser>, Refusal> {
    let mut users = Vec::new();
    let mut count = 1;
    let mut id = 1;
    while id <= count {
        let access = match ipmi.send(APP, 0x44, &[channel, id]) {
            Ok(data) => data,
            // Slots that may not be asked are no reason to lose the others; the first one tells how many there are.
            Err(refusal) if refusal.is_final() || id == 1 => return Err(refusal),
            Err(_) => {
                id += 1;
                continue;
            }
        };
        let [slots, enabled, _, rights, ..] = access.as_slice() else {
            return Err(Refusal::Short);
        };
        count = (slots & 0x3f).clamp(1, MAX_USERS);
        let name = match names.get(&id) {
            Some(name) => name.clone(),
            None => {
                let name = user_name(ipmi, id)?;
                names.insert(id, name.clone());
                name
            }
        };
        let user = user(channel, id, name, *enabled, *rights);
        if !is_unused(&user, *rights) {
            users.push(user);
        }
        id += 1;
    }
    Ok(users)
}

fn user_name(ipmi: &mut Ipmi<'_>, id: u8) -> Result<Option<String>, Refusal> {
    match ipmi.send(APP, 0x46, &[id]) {
        Ok(data) => {
            let name = data.split(|byte| *byte == 0).next().unwrap_or_default();
            Ok(clean(&decoded(name)))
        }
        Err(refusal) if refusal.is_final() => Err(refusal),
        Err(_) => Ok(None),
    }
}

fn user(channel: u8, id: u8, name: Option<String>, enabled: u8, rights: u8) -> BmcUser {
    BmcUser {
        channel,
        id,
        name,
        enabled: match enabled >> 6 {
            1 => Some(true),
            2 => Some(false),
            _ => None,
        },
        privilege: privilege(rights & 0x0f),
        ipmi_messaging: rights & 0x10 != 0,
        link_authentication: rights & 0x20 != 0,
    }
}

/// A slot that nobody ever filled: no name, and no way in.
fn is_unused(user: &BmcUser, rights: u8) -> bool {
    // Level 15 is no access (6.8).
    user.name.is_none() && (!user.ipmi_messaging || user.enabled == Some(false) || rights & 0x0f == 15)
}

/// Privilege levels (6.8).
pub(crate) fn privilege(level: u8) -> String {
    names::name_or("privilege", level, || format!("level {level}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::linked;
    use super::*;

    #[test]
    fn users_have_names_and_rights_and_empty_slots_are_left_out() {
        let mut names = BTreeMap::new();
        let users = linked(
            |_, cmd, data| {
                Ok(match (cmd, data) {
                    (0x44, [1, 1]) => vec![0, 0x04, 0x82, 1, 0x0f],
                    (0x44, [1, 2]) => vec![0, 0x04, 0x42, 1, 0x34],
                    (0x44, [1, 3]) => vec![0xd4],
                    (0x44, [1, 4]) => vec![0, 0x04, 0x82, 1, 0x12],
                    (0x46, [2]) => [&[0][..], b"root\0\0\0\0\0\0\0\0\0\0\0\0"].concat(),
                    (0x46, [4]) => [&[0][..], b"monitor\0\0\0\0\0\0\0\0\0"].concat(),
                    (0x46, [1]) => vec![0; 17],
                    other => panic!("{other:?}"),
                })
            },
            |ipmi| of_channel(ipmi, 1, &mut names),
        )
        .unwrap();
        let told: Vec<_> = users
            .iter()
            .map(|user| (user.id, user.name.as_deref(), user.enabled, user.privilege.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (2, Some("root"), Some(true), "administrator"),
                (4, Some("monitor"), Some(false), "user")
            ]
        );
        assert!(users[0].ipmi_messaging && users[0].link_authentication);
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn an_open_anonymous_user_is_told() {
        let user = user(1, 1, None, 0x42, 0x14);
        assert!(!is_unused(&user, 0x14));
        // Of those that have no access the level tells.
        assert!(is_unused(&user, 0x1f));
    }
}
