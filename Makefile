# Thin front of Meson: every target is one line that a person could type.
#   make        the release binary at build/spark        make check   all tests, as CI runs them
#   make run    builds and answers from the demo model   make bench   speed beside the peers that are installed
#   make soak   ten minutes of a bad crowd                make bench-serve  the service beside the peers' servers
#   make jail-arm  the jail on 64-bit ARM, live in a virtual machine
#   sudo make install  puts in place what `make` has built: below PREFIX (/usr/local; another is said to both), in front of it DESTDIR
JOBS ?= $(shell nproc)
PROMPT ?= Once upon a time
FUZZ_SECONDS ?= 60
override PREFIX := $(abspath $(PREFIX))

.PHONY: all everything deps check-deps quick-deps bench-deps arm-live-deps run check quick-check bench bench-serve soak fuzz format lint asan ubsan tsan cross jail-arm install clean
.NOTPARALLEL: # ninja is parallel; targets stand in order

# Where it will be installed stands in units and in spark.pc: another place is another setup, of the same objects.
all: build/build.ninja
	@$(if $(PREFIX),grep -qxF 'prefix=$(PREFIX)' build/meson-private/spark.pc || meson configure build -Dprefix='$(PREFIX)')
	@ninja -C build -j $(JOBS) $(if $(V),-v) product

everything: build/build.ninja
	@ninja -C build -j $(JOBS) $(if $(V),-v)

deps:
	@tools/install-deps build

# Python first of all: what tests and measures is written in it
check-deps:
	@tools/install-deps check

quick-deps:
	@tools/install-deps test

bench-deps:
	@tools/install-deps bench

arm-live-deps:
	@tools/install-deps arm-live

build/build.ninja: | deps
	@CC=$$(tools/find-compiler) meson setup build --prefix=$(or $(PREFIX),/usr/local) > build.log 2>&1 || { cat build.log; exit 1; }; rm -f build.log

run: all
	@build/spark run "$(PROMPT)" -n 120 --temp 0.6

check: check-deps
	@tools/check

quick-check: quick-deps everything
	@meson test -C build --print-errorlogs --no-rebuild

bench: bench-deps everything
	@bench/run $(BENCH)

bench-serve: bench-deps everything
	@bench/serve $(BENCH)

soak: bench-deps everything
	@tests/soak $(SOAK)

fuzz: check-deps
	@tools/fuzz $(FUZZ_SECONDS)

format: check-deps
	@tools/format

lint: check-deps
	@tools/lint

asan ubsan tsan: check-deps
	@tools/sanitize $@

cross: check-deps
	@tools/cross-check

jail-arm: arm-live-deps all
	@tools/jail-arm

install:
	@tools/install '$(DESTDIR)' '$(PREFIX)'

clean:
	@rm -rf build build-*
