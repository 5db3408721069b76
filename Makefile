# pgpool_monitor: the extension is built from here, the client library in client/.
#
#   make, make install, make installcheck     as with any extension (PGXS); PG_CONFIG=... chooses the server
#   make -C client [install prefix=...]       the client library, no server needed
#   make demo, make check                     see it, test it: each sets up what is missing, installs nothing into the system
#                                             but packages, and leaves nothing behind
#   make help                                 everything else

PG_CONFIG ?= pg_config

EXTENSION = extension/pgpool_monitor
MODULE_big = pgpool_monitor
OBJS = $(addprefix extension/, \
	pgpool_monitor.o session.o registry.o past.o saved.o rule_set.o enforce.o grant.o share.o pause.o history.o \
	health_watch.o listen.o worker.o \
	view.o view_pools.o view_instances.o view_info.o view_pause.o view_counters.o view_history.o \
	report.o rules.o allot.o health.o totals.o history_ring.o advice.o queueing.o identify.o)
DATA = $(wildcard extension/pgpool_monitor--*.sql)

# Against a running server that has the library preloaded; notpreloaded is for one that has not, and `make check` runs both.
REGRESS = $(filter-out notpreloaded,$(basename $(notdir $(sort $(wildcard sql/*.sql)))))

# Bitcode is for inlining functions into JIT-compiled expressions; ours are none, and it would take a clang of the server's age.
# (`override`, because Makefile.global assigns it later.)
override with_llvm = no

# WERROR=1: for our own checks. A user's newer compiler shall not fail on a warning of the future.
ifdef WERROR
# PostgreSQL's own headers and conventions (unused fcinfo, partly initialized structs) are not free of these.
PG_CFLAGS += -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-sign-compare -Werror
endif

# These run in a private copy, after a set-up, and may be called where there is no pg_config yet: PGXS is not for them.
staged = check check-unit check-client check-faults check-e2e check-preload check-preload-suites check-asan check-tsan check-model check-sim \
  check-postgres soak fuzz lint demo bench bench-server bench-preload
standalone = $(staged) check-versions format setup help

ifneq ($(filter-out $(standalone),$(or $(MAKECMDGOALS),all)),)
PGXS := $(shell '$(PG_CONFIG)' --pgxs 2>/dev/null)
ifeq ($(PGXS),)
$(error $(PG_CONFIG) not found: install the server's development files ("make setup" can), or set PG_CONFIG)
endif
# The same for races, where isolationtester is there, which not all packagers bring. listen is for a server that is set for it
# (tests/t/110_isolation.pl), and `make check` runs all.
ifneq ($(wildcard $(dir $(PGXS))../test/isolation/pg_isolation_regress),)
ISOLATION = $(filter-out listen,$(basename $(notdir $(sort $(wildcard tests/isolation/specs/*.spec)))))
ISOLATION_OPTS = --inputdir=tests/isolation --launcher='bash tests/isolation/as_instance.sh' --load-extension=pgpool_monitor
endif

include $(PGXS)

# Headers are few: whichever changes, everything is compiled again.
$(OBJS): $(wildcard extension/*.h)

clean: clean-client

.PHONY: clean-client
clean-client:
	$(MAKE) -C client clean
endif

# Only where one of them is asked for: PGXS has a `check` of its own, which says that it can do nothing.
ifneq ($(filter $(standalone),$(MAKECMDGOALS)),)
.PHONY: $(standalone)

# --- in a private copy (tests/lib/stage.sh) ---------------------------------------------------------------------------------

# Values for the scripts go by environment: they may have blanks, and quotes of the shell's in them are the user's own business.
export PG_CONFIG TESTS JOBS KEEP DEMO_SECONDS SOAK_SECONDS SOAK_SEED SOAK_OF FUZZ_SECONDS SIM_SEEDS SIM_FIRST SIM_MILLIONS SIM_OUT \
  VERSIONS MIRROR WHERE_POSSIBLE SUITES
setup = bash tests/lib/setup.sh
stage = bash tests/lib/stage.sh

check:
	@$(setup) check
	@$(stage) bash tests/lib/check.sh unit client faults e2e

check-unit:
	@$(setup) unit
	@$(stage) bash tests/lib/check.sh unit

check-client check-faults check-e2e: check-%:
	@$(setup) check
	@$(stage) bash tests/lib/check.sh $*

check-preload:
	@$(setup) check preload
	@$(stage) bash tests/lib/check.sh preload

check-preload-suites:
	@$(setup) check preload
	@$(stage) bash tests/lib/client_suites.sh

check-asan:
	@$(setup) check
	@$(stage) bash tests/lib/check.sh --sanitize=address,undefined unit client faults preload

check-tsan:
	@$(setup) check
	@$(stage) bash tests/lib/check.sh --sanitize=thread client preload

soak:
	@$(setup) check
	@$(stage) bash tests/soak/soak.sh $(if $(SANITIZE),--sanitize=$(SANITIZE))

fuzz:
	@$(setup) fuzz
	@$(stage) bash tests/fuzz/fuzz.sh

check-model:
	@$(setup) model
	@$(stage) bash tests/model/run.sh

# The file is opened here, by the caller's rights: in the stage these are another's.
check-sim:
	@$(setup) unit
	@$(stage) bash tests/sim/run.sh $(if $(SIM_OUT),3> "$$SIM_OUT")

check-postgres:
	@$(setup) check postgres
	@$(stage) bash tests/lib/postgres_suite.sh

lint:
	@$(setup) check lint
	@$(stage) bash tests/lib/lint.sh

demo:
	@$(setup) demo
	@$(stage) bash client/examples/demo.sh

bench:
	@$(setup) check bench
	@$(stage) bash tests/bench/bench.sh $(if $(BENCH_OUT),3> "$$BENCH_OUT")

bench-server:
	@$(setup) check
	@$(stage) bash tests/bench/server.sh

bench-preload:
	@$(setup) check preload
	@$(stage) bash tests/bench/preload.sh

# --- in place ----------------------------------------------------------------------------------------------------------------

# In chroots, which take root: the stage is made inside them.
check-versions:
	@$(setup) versions
	@bash tests/lib/versions.sh

setup:
	$(setup) check demo lint

format:
	@$(setup) lint
	@bash tests/lib/lint.sh --format

help:
	@echo 'make, make install, make uninstall, make clean, make installcheck   as with any extension; PG_CONFIG=... chooses the server'
	@echo 'make -C client, make -C client install prefix=...                   the client library'
	@echo 'make demo [DEMO_SECONDS=15]                                         see what it is for'
	@echo 'make check [TESTS=regex] [JOBS=n] [KEEP=1]                          all tests; KEEP=1 keeps the directory they ran in'
	@echo 'make check-unit, check-client, check-faults, check-e2e              some of them'
	@echo 'make check-preload                                                  programs that were never changed, pooled'
	@echo 'make check-preload-suites [SUITES=directory]                        the own test suites of two drivers, pooled'
	@echo 'make check-asan, check-tsan                                         under gcc'"'"'s sanitizers'
	@echo 'make check-versions [VERSIONS="17 18"] [TESTS=regex] [MIRROR=url]    with other versions of PostgreSQL, as root, in chroots'
	@echo 'make check-model                                                    the protocol of acquire and release, in two models'
	@echo 'make check-sim [SIM_SEEDS=2] [SIM_MILLIONS=10] [SIM_OUT=file.tar]   sharing, by simulated fleets (tests/sim/README.md)'
	@echo 'make check-postgres                                                 PostgreSQL'"'"'s own regression suite beside the extension'
	@echo 'make soak [SOAK_SECONDS=30] [SOAK_OF=client|preload] [SANITIZE=kinds] everything at once against a server that is ill-treated'
	@echo 'make fuzz [FUZZ_SECONDS=60] [TESTS=regex]                           the parsers, with inputs that libFuzzer makes up'
	@echo 'make bench [BENCH_ONLY=regex] [BENCH_OUT=file]                      how fast it is, beside others (tests/bench/README.md)'
	@echo 'make bench-server                                                   what the extension costs the server'
	@echo 'make bench-preload                                                  how fast programs are that connect for each piece of work'
	@echo 'make lint, make format                                              style and static analysis; apply the style'
	@echo 'make setup                                                          install what these need'
endif
