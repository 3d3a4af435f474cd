# `make` lists the targets. The work is done by scripts/, so that CI and people run the same.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint bench chaos docs services stop fmt clean

# rustup installs here and edits the profile of later shells only.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

help: ## list these targets
	@echo 'Doorbell: rows of a PostgreSQL outbox to Kafka'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

demo: ## watch events cross from PostgreSQL to Kafka (KEEP=1: leave it running)
	@KEEP=$(KEEP) scripts/demo

test: ## run the tests against a real PostgreSQL and a real Kafka
	@scripts/test

test-all: test ## ... and waves of faults, the core on PostgreSQL 14 with Kafka 3.9, the benchmarks once, the examples
	@scripts/test --rest

lint: ## run every check that is not a test: format, clippy, docs, licences, spelling
	@scripts/lint

bench: ## measure the relay beside a bare loop of the same libraries and beside Debezium (about half an hour)
	@scripts/bench --peers

chaos: ## throw 500 faults at relays, PostgreSQL and Kafka under load; nothing may be lost (about a quarter of an hour)
	@scripts/chaos --faults 500 --out target/chaos

docs: ## build the book of the documentation into target/book
	@scripts/docs

services: ## start PostgreSQL and Kafka and leave them running
	@scripts/need
	@scripts/services start

stop: ## stop the services that were started here and a demo's relay; data stay
	@scripts/demo stop
	@scripts/services stop --all

fmt: ## format the code
	@cargo fmt --all

clean: stop ## stop the services, delete their data and everything that was built; downloads stay in .services/programs
	@scripts/services remove --all
	@cargo clean
