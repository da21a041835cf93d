# make demo        a hot backup of a busy private server, restored and proved, in about a minute
# make test        everything a change must pass; make test-long: the long runs as well
# make lint        formatting, clippy, documentation, man pages; the fuzz targets compile
# make fuzz        each fuzz target on arbitrary bytes, for 20 seconds (XB_FUZZ_SECONDS)
# make bench       measurements against the stock programs (tests/bench)
# make install     PREFIX (/usr/local), DESTDIR; make uninstall takes away what that has put there
# make man completions    what the programs say about themselves, written anew

PREFIX  ?= /usr/local
DESTDIR ?=
# Debian's fish does not look below /usr/local; this directory is for those who administer the machine.
FISHDIR ?= $(if $(filter /usr/local,$(PREFIX)),/etc/fish/completions,$(PREFIX)/share/fish/vendor_completions.d)
CARGO   ?= cargo

bin    := $(or $(CARGO_TARGET_DIR),target)/release
tools  := $(shell sed -n '/^\[\[bin]]/{n;s/^name = "\(.*\)"/\1/p;}' Cargo.toml)

# The stock programs for which xb-front stands; a user puts this directory first in PATH.
fronts := mariadb-backup mariabackup xtrabackup innobackupex mbstream xbstream xbcrypt
front  := $(DESTDIR)$(PREFIX)/lib/xb-tools/front

.PHONY: all build demo test test-long bench lint fuzz install uninstall man completions clean

all: build

build:
	$(CARGO) build --release --locked

demo:
	tests/setup demo
	$(CARGO) build --release --locked
	tests/demo.sh

# The dev profile is optimised enough for gigabytes (Cargo.toml) and, unlike release, checks arithmetic and links in
# seconds. Every test has its own servers; more than four at once starve each other.
test:
	tests/setup
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(nproc | awk '{ print ($$1 < 4) ? $$1 : 4 }')} $(CARGO) test --locked

# The same, and the tests marked #[ignore]: hours, not minutes. One at a time, for they load the machine by themselves.
test-long: test
	RUST_TEST_THREADS=1 $(CARGO) test --locked -- --ignored --nocapture

bench:
	tests/setup bench
	$(CARGO) build --release --locked
	set -e; for script in snap impact locks tables apply increment mysql pack zip crypt flow chain sst; do \
	    tests/bench/$$script.sh; done

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --quiet
	for page in $(wildcard man/*.[1-8]); do mandoc -T lint -W warning $$page || exit 1; done
# A package of its own; checked only, its C++ library is named and never built.
	CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a $(CARGO) check --locked --manifest-path tests/fuzz/Cargo.toml \
	    --target-dir $(or $(CARGO_TARGET_DIR),target)
	$(CARGO) fmt --check --manifest-path tests/fuzz/Cargo.toml

fuzz:
	tests/fuzz/run

# Both are compared with what the programs print by tests/docs.rs; that test, told so, writes them.
man completions:
	XB_BLESS=1 $(CARGO) test --locked --test all docs::what_is_committed

install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 \
	    $(DESTDIR)$(PREFIX)/share/man/man7 $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	    $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(FISHDIR)
	set -e; for tool in $(tools); do \
	    install -m 755 $(bin)/$$tool $(DESTDIR)$(PREFIX)/bin/; \
	    install -m 644 completions/$$tool.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$tool; \
	    install -m 644 completions/_$$tool $(DESTDIR)$(PREFIX)/share/zsh/site-functions/; \
	    install -m 644 completions/$$tool.fish $(DESTDIR)$(FISHDIR)/; done
	set -e; for section in 1 5 7; do for page in man/*.$$section; do \
	    if [ -e "$$page" ]; then install -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$$section/; fi; done; done

	install -d $(front)
	set -e; for name in $(fronts); do ln -sfn ../../../bin/xb-front $(front)/$$name; done

uninstall:
	set -e; for tool in $(tools); do \
	    rm -f $(DESTDIR)$(PREFIX)/bin/$$tool $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$tool \
	        $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$tool $(DESTDIR)$(FISHDIR)/$$tool.fish; done
	set -e; for section in 1 5 7; do for page in man/*.$$section; do \
	    rm -f $(DESTDIR)$(PREFIX)/share/man/man$$section/$${page##*/}; done; done
	set -e; for name in $(fronts); do rm -f $(front)/$$name; done
	for dir in $(front) $(dir $(front)); do \
	    if [ -d $$dir ]; then rmdir --ignore-fail-on-non-empty $$dir; fi; done

clean:
	$(CARGO) clean
