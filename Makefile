# A short front door; CMake and Ninja do the work (CMakeLists.txt).
#   make            build/larder              make check [T=name]   tests, last line 'N passed, ...'
#   make run [UPSTREAM=URL]                   make asan tsan fuzz bench lint install
B ?= build
T ?=
J ?= $(shell nproc)
TYPE ?= RelWithDebInfo
SANITIZE ?=
LR_WERROR ?= OFF

all: $(B)/build.ninja
	@ninja -C $(B) -j$(J) larder
$(B)/build.ninja: CMakeLists.txt
	@cmake -S . -B $(B) -G Ninja -DCMAKE_BUILD_TYPE=$(TYPE) -DLR_SANITIZE=$(SANITIZE) -DLR_WERROR=$(LR_WERROR) >/dev/null
setup:
	@tools/setup.sh
run: setup all
	@exec $(B)/larder serve $(if $(UPSTREAM),--upstream $(UPSTREAM)) $(ARGS)
check: setup $(B)/build.ninja
	@ninja -C $(B) -j$(J)
	@tools/check.sh $(B) "$(T)"
asan:
	@$(MAKE) --no-print-directory check B=build-asan TYPE=Debug SANITIZE=address,undefined T="$(T)"
tsan:
	@$(MAKE) --no-print-directory check B=build-tsan TYPE=Debug SANITIZE=thread T="$(T)"
fuzz:
	@tools/fuzz.sh $(T)
check-clients: setup all
	@tools/check-clients.sh $(B)
check-long: setup $(B)/build.ninja
	@ninja -C $(B) -j$(J) unit_store_threads unit_store_store unit_store_flip unit_store_power unit_store_law
	@tests/long/run.sh $(B) $(T)
check-logits: setup $(B)/build.ninja
	@tools/check-logits.sh $(B) $(ARGS)
check-lmcache: setup all
	@tests/clients/lmcache.sh $(B)
bench: setup all
	@bench/run.sh $(B) $(T)
lint: $(B)/build.ninja
	@tools/lint.sh $(B)
install: all
	@ninja -C $(B) pages
	@cmake --install $(B)
clean:
	@rm -rf build build-*
.PHONY: all setup run check asan tsan fuzz check-clients check-logits check-long bench lint install clean
