//! Accounts that are in no file: a resolver before the system's own, as LDAP or SSSD would be.

use std::fs;
use std::path::{Path, PathBuf};

use super::{output, program};

/// Knows the user `ldap_user` (4711, group 4712) and the group `ldap_group` (4713), and does not answer for `no_answer`.
const RESOLVER: &str = r#"
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
static char *none[] = { 0 };
int getpwnam_r(const char *name, struct passwd *it, char *room, size_t len, struct passwd **found) {
    (void)room; (void)len;
    *found = 0;
    if (!strcmp(name, "no_answer")) return errno = EIO;
    if (strcmp(name, "ldap_user")) return 0;
    it->pw_name = "ldap_user"; it->pw_passwd = "x"; it->pw_gecos = ""; it->pw_dir = "/"; it->pw_shell = "/bin/false";
    it->pw_uid = 4711; it->pw_gid = 4712;
    *found = it;
    return 0;
}
int getgrnam_r(const char *name, struct group *it, char *room, size_t len, struct group **found) {
    (void)room; (void)len;
    *found = 0;
    if (strcmp(name, "ldap_group")) return 0;
    it->gr_name = "ldap_group"; it->gr_passwd = "x"; it->gr_mem = none; it->gr_gid = 4713;
    *found = it;
    return 0;
}
"#;

/// Builds it in a directory: the value of `LD_PRELOAD`.
pub fn resolver(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("resolver.c"), dir.join("resolver.so"));
    fs::write(&source, RESOLVER).unwrap();
    output({
        let mut cc = program("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        cc
    });
    library
}
