//! socat's command lines.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use super::args::Address;
use super::children::mortal;
use super::tls::{Check, Files};
use crate::error::{Error, Result};

/// What sends standard input to the joiner.
pub(super) fn sender(address: &Address, tls: Option<&Files>, more: &str) -> Result<Command> {
    let place = address.place();
    let mut options = vec![family(address, more)];
    let kind = match tls {
        None => "TCP",
        Some(files) => {
            options.extend(certificates(files)?);
            options.push(match files.check {
                Check::Nothing => String::new(),
                // No name is verified, and an empty one cannot be sent.
                Check::Chain => "commonname=,no-sni=1".to_owned(),
                Check::ChainAndName => format!("commonname={}", address.host),
            });
            "OPENSSL"
        }
    };
    Ok(socat(&["stdio", &line(&format!("{kind}:{place}"), &options, more)]))
}

/// What writes to standard output what the donor sends.
pub(super) fn receiver(address: &Address, tls: Option<&Files>, more: &str) -> Result<Command> {
    let mut options = vec![family(address, more), "reuseaddr".to_owned()];
    let kind = match tls {
        None => "TCP-LISTEN",
        Some(files) => {
            options.extend(certificates(files)?);
            "OPENSSL-LISTEN"
        }
    };
    Ok(socat(&[&line(&format!("{kind}:{}", address.port()), &options, more), "stdio"]))
}

fn socat(arguments: &[&str]) -> Command {
    let mut command = mortal(OsStr::new("socat"));
    command.arg("-u").args(arguments);
    command
}

fn family(address: &Address, more: &str) -> String {
    // socat refuses an option that comes twice.
    let asked = more.split(',').any(|option| option.starts_with("pf="));
    if address.host.contains(':') && !asked { "pf=ip6".to_owned() } else { String::new() }
}

fn line(address: &str, options: &[String], more: &str) -> String {
    let options = options.iter().map(String::as_str).chain([more]).filter(|option| !option.is_empty());
    [address].into_iter().chain(options).collect::<Vec<_>>().join(",")
}

fn certificates(files: &Files) -> Result<Vec<String>> {
    let mut options = vec![option("cert", &files.cert)?, option("key", &files.key)?];
    if let Some(ca) = &files.ca {
        options.push(option("cafile", ca)?);
    }
    if let Some(dir) = &files.capath {
        options.push(option("capath", dir)?);
    }
    if let Some(file) = &files.dhparams {
        options.push(option("dhparams", file)?);
    }
    options.push(format!("verify={}", u8::from(files.check != Check::Nothing)));
    Ok(options)
}

fn option(name: &str, path: &Path) -> Result<String> {
    let text =
        path.to_str().filter(|text| !text.contains([',', ':', '!', '"', '\'', '\\', '(', ')', '[', ']', '{', '}']));
    let text =
        text.ok_or_else(|| Error::usage(path.display(), "has a character that socat does not take in a path"))?;
    Ok(format!("{name}={text}"))
}

/// True if somebody on this host listens at a port.
pub(super) fn listens(port: u16) -> bool {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    tables.iter().any(|table| std::fs::read_to_string(table).is_ok_and(|text| is_listed(&text, port)))
}

fn is_listed(table: &str, port: u16) -> bool {
    let end = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next().is_some_and(|local| local.ends_with(&end));
        local && fields.nth(1) == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> String {
        let all: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let from = all.iter().position(|word| word == "-u").unwrap();
        all[from..].join(" ")
    }

    #[test]
    fn command_lines_are_those_of_the_manual() {
        let files = |check| Files {
            ca: Some("/c/ca".into()),
            capath: None,
            cert: "/c/cert".into(),
            key: "/c/key".into(),
            dhparams: None,
            check,
        };
        let at = |text: &str| Address::parse(text).unwrap();
        for (found, want) in [
            (sender(&at("n1:1"), None, ""), "-u stdio TCP:n1:1"),
            (sender(&at("[::1]:1"), None, "bufsize=1"), "-u stdio TCP:[::1]:1,pf=ip6,bufsize=1"),
            (
                sender(&at("n1:1"), Some(&files(Check::ChainAndName)), ""),
                "-u stdio OPENSSL:n1:1,cert=/c/cert,key=/c/key,cafile=/c/ca,verify=1,commonname=n1",
            ),
            (
                sender(&at("n1:1"), Some(&files(Check::Chain)), ""),
                "-u stdio OPENSSL:n1:1,cert=/c/cert,key=/c/key,cafile=/c/ca,verify=1,commonname=,no-sni=1",
            ),
            (sender(&at("[::1]:1"), None, "pf=ip6"), "-u stdio TCP:[::1]:1,pf=ip6"),
            (receiver(&at("n1:1"), None, ""), "-u TCP-LISTEN:1,reuseaddr stdio"),
            (
                receiver(&at("[::1]:1"), Some(&files(Check::Chain)), "x=1"),
                "-u OPENSSL-LISTEN:1,pf=ip6,reuseaddr,cert=/c/cert,key=/c/key,cafile=/c/ca,verify=1,x=1 stdio",
            ),
        ] {
            assert_eq!(words(&found.unwrap()), want);
        }
        let params = Files { dhparams: Some("/c/dh".into()), ..files(Check::Chain) };
        assert!(words(&receiver(&at("n1:1"), Some(&params), "").unwrap()).contains(",dhparams=/c/dh,verify=1"));
        let odd = Files { cert: "/c/a,verify=0".into(), ..files(Check::Chain) };
        assert!(sender(&at("n1:1"), Some(&odd), "").is_err());
    }

    #[test]
    fn a_listener_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(port));
        drop(listener);
        assert!(!listens(port));
    }
}
