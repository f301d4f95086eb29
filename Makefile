# `make run` and `make test` are all a newcomer needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
export PATH := $(HOME)/.cargo/bin:$(PATH)
# Containers, cgroups and namespaces need root; a test binary asks for it itself.
ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=CI,PATH)
JOBS ?= 2
# For each fuzz target.
FUZZ_SECONDS ?= 600
ARGS ?=
# How many, or which one, `make soak` simulates.
SEEDS ?= 2000
FROM ?= 1
SEED ?=
# A box for the Vagrant lab.
BOX ?=
# aarch64 | armv7 | x86_64, of `make cross` and `make deb` (there: without, this machine).
TARGET ?=

.PHONY: run test test-vm test-arm cross deb bench fuzz soak verify fix build lint deny

run: build
	@$(ROOT) $$(cat target/bramble-path) up $(ARGS)

build:
	@cross/prerequisites.sh run
	@mkdir -p target && cross/build.sh | tail -n 1 > target/bramble-path

# The binary under test is the debug one, so that nothing is built twice.
test:
	@cross/prerequisites.sh test
	@# Before anything runs as root, so that what is installed belongs to who builds. A machine
	@# without a network is told by the tests themselves.
	@for client in python npm; do \
		tests/conformance/install.sh $$client $${CARGO_TARGET_DIR:-target}/conformance || true; done
	cargo build --locked -j $(JOBS) -p bramble
	previous=$$(JOBS=$(JOBS) cross/previous.sh) && CARGO_BUILD_JOBS=$(JOBS) \
		BRAMBLE_PREVIOUS=$$previous tests/run-as-root.sh cargo test --locked --workspace

# BOX=FILE: with machines of that box, too.
test-vm:
	@cross/prerequisites.sh vm
	@cross/prerequisites.sh lab
	@cross/prerequisites.sh cross-aarch64
	cargo build --locked -j $(JOBS) -p bramble
	tests/vm/run.sh
	tests/vm/cross.sh
	tests/vm/vagrant.sh $(BOX)
	tests/vm/images.sh x86
	tests/vm/settings.sh
	tests/vm/three.sh
	$(ROOT) tests/vm/lab.sh
	tests/vm/powercuts.sh 4

# Whole nodes and the images for ARM, under emulation: building them takes longer than CI has.
test-arm:
	@cross/prerequisites.sh vm
	@cross/prerequisites.sh cross-aarch64
	@cross/prerequisites.sh cross-armv7
	tests/vm/cross.sh node
	TARGET=armv7 tests/vm/cross.sh node
	tests/vm/images.sh arm64-uefi pi

# Static programs for other machines; CROSS_WITH=zig by rustup's libraries instead of Debian's.
cross:
	@[[ -n "$(TARGET)" ]] || { echo "make cross TARGET=aarch64|armv7|x86_64" >&2; exit 2; }
	@cross/prerequisites.sh cross-$(TARGET)
	@JOBS=$(JOBS) cross/build.sh $(TARGET)

deb:
	@cross/prerequisites.sh $(if $(TARGET),cross-$(TARGET),run)
	@command -v cargo-deb >/dev/null || cargo install --locked -j $(JOBS) cargo-deb
	@JOBS=$(JOBS) cross/deb.sh $(TARGET)

bench: build
	@cross/prerequisites.sh bench
	$(ROOT) python3 tests/bench/run.py $$(cat target/bramble-path) $(ARGS)

fuzz:
	@cross/prerequisites.sh fuzz
	JOBS=$(JOBS) tests/fuzz/run.sh $(FUZZ_SECONDS)

# Clusters on a virtual clock (tests/simulation): many seeds, or one with its trace.
soak:
	@cross/prerequisites.sh test
	cargo test --locked -j $(JOBS) -p bramble-simulation --test simulation -- \
		$(if $(SEED),--seed $(SEED) --trace,--seeds $(SEEDS) --from $(FROM))

# Read-only; what CI checks.
verify: FUZZ_SECONDS = 30
verify: lint deny test fuzz

lint:
	@cross/prerequisites.sh test
	cargo fmt --all --check
	cargo clippy --locked -j $(JOBS) --workspace --all-targets -- -D warnings

deny:
	@command -v cargo-deny >/dev/null || cargo install --locked -j $(JOBS) cargo-deny
	cargo deny check bans licenses sources

fix:
	cargo fmt --all
	cargo clippy --workspace --all-targets --fix --allow-dirty
