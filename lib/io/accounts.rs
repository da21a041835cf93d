//! Users and groups, as the system resolves them: `/etc/passwd`, LDAP, SSSD, or any other source in nsswitch.conf(5).

use nix::errno::Errno;
use nix::unistd::{Group, Uid, User};

use crate::error::{Error, Result};

/// User and group id of an account; `None` if it does not exist.
///
/// # Errors
///
/// [`crate::Kind::Failed`], if the resolver fails, so that it is unknown whether the account exists.
pub fn user(name: &str) -> Result<Option<(u32, u32)>> {
    let found = User::from_name(name).map_err(|errno| failed(name, errno))?;
    Ok(found.map(|user| (user.uid.as_raw(), user.gid.as_raw())))
}

/// Id of a group; `None` if it does not exist.
///
/// # Errors
///
/// As [`user`].
pub fn group(name: &str) -> Result<Option<u32>> {
    let found = Group::from_name(name).map_err(|errno| failed(name, errno))?;
    Ok(found.map(|group| group.gid.as_raw()))
}

/// The name of the account that runs this process, if it has one.
pub fn own_name() -> Option<String> {
    User::from_uid(Uid::effective()).ok().flatten().map(|user| user.name)
}

fn failed(name: &str, errno: Errno) -> Error {
    Error::io(name, "cannot look up the account", &errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name() {
        assert_eq!(user("root").unwrap(), Some((0, 0)));
        assert_eq!(group("root").unwrap(), Some(0));
        assert_eq!((user("nobody_at_all").unwrap(), group("nobody_at_all").unwrap()), (None, None));
        assert_eq!(user("a\0b").unwrap(), None);
    }
}
