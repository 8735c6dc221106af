# SPDX-License-Identifier: GPL-2.0
#
# make kselftest TARGETS=mshv   the suite in the nested root VM
# make check                    tests of the driver, the hypervisor, the repository

export KDIR O CPUS MEM TESTS CONFIG ACCEL HV CMDLINE TIMEOUT BOOT_TIMEOUT CACHE
export TARGETS TEST_ONLY CHECKS LIST SEED DURATION SCRIPT GDB MUTANTS KERNELS QUICK BASE RELEASES COMMANDS
unexport MAKEFLAGS MAKELEVEL

help:
	@sed -n 's/^#h \{0,1\}//p' Makefile

#h make kselftest TARGETS=mshv
#h	Install what is missing, fetch v6.18, apply patches/, build, boot the
#h	nested root VM, run selftests/mshv in it. Exit status: the verdict.
#h	  BASE=v6.18    what to fetch: a name in scripts/bases
#h	  GIT_URL=URL   where to clone it from, if not from kernel.org
#h	  KDIR=DIR      a clean 6.18 kernel tree to use instead of fetching one;
#h	                it is only read, and taken as it is if it has the series
#h	  O=DIR         where to build (default: in the cache); logs are in O/run
#h	  CPUS=2        CPUs of the root partition that run tests, 1 to 7
#h	  MEM=2G        memory, 1G to 8G
#h	  TESTS="..."   only these programs; PROGRAM:CASE for one case of one
#h	  CONFIG=FILE   a fragment to merge into the kernel configuration
#h	  ACCEL=auto    kvm (needs nested SVM), tcg, or auto: kvm where possible
#h	  HV="..."      hypervisor parameters, e.g. HV="sched=hyp split=free"
#h	  CMDLINE="..." more for the root kernel's command line
#h	  TIMEOUT=1500  seconds a run may take; BOOT_TIMEOUT=120 until init runs
#h	  CACHE=DIR     downloads, trees and builds
#h	                (default: $XDG_CACHE_HOME or ~/.cache, mshv-nested-root)
#h	  TEST_ONLY=0   without the test-only kernel patches
#h	  SEED=1        of mshv_mm_fuzz, the fuzzer of guest memory
#h	  DURATION=2    seconds that it takes; TIMEOUT grows by as much
#h	  SCRIPT=FILE   or text: operations for it to repeat, as it printed them
#h	  GDB=PORT      stop before the first instruction and wait for gdb
kselftest:
	@scripts/kselftest

#h make check
#h	The suite in its variants, the hypervisor's tests, the repository. In less
#h	than an hour. CHECKS="name ..." runs only these, LIST=1 lists them, CHECKS=all
#h	is all of them: debug kernels and builds for each patch, too.
#h	  SEED=1        of the fuzzers: of the hypervisor (CHECKS=hvfuzz) and of
#h	                guest memory (CHECKS=mm-fuzz), which takes DURATION=120
check:
	@scripts/check

#h make check-fresh
#h	The two commands of README on a Debian 12 and 13 with nothing but make and
#h	git, from debootstrap, downloads and all. Needs root, takes hours.
#h	  RELEASES="12 13"  which; TESTS= and CHECKS= as above; COMMANDS=1: the first
check-fresh:
	@scripts/check-fresh

#h make package
#h	Debian packages for a real root or L1VH host in build/package: the kernel
#h	with the series, and the tests.
#h	  CONFIG=FILE   its whole configuration, such as the host's /boot/config-*
package:
	@scripts/package

#h make checkpatches
#h	Each patch by itself: compilers, sparse, checkpatch, coccinelle, the suite;
#h	a table. QUICK=1 leaves out what takes longest.
checkpatches:
	@scripts/checkpatches

#h make mutants
#h	Makes the driver wrong in each of the ways in selftests/nested-root/mutants
#h	and tells which test notices. MUTANTS="name ..." runs some.
mutants:
	@scripts/mutants

#h make bench
#h	What guest memory costs, and how it behaves, under v6.18, the series and later
#h	drivers, in tables and plots; what the series is to reach, and whether it does.
#h	scripts/bench -c DIR1 DIR2 tells whether the results of two runs are the same.
#h	  KERNELS="..." some of v6.18 1/7 ... 7/7 v6.19.11 v7.2.6
#h	  QUICK=1       v6.18, 7/7 and v7.2.6 only, without counting instructions
#h	  O=DIR         where the results go (default: bench in the cache)
bench:
	@scripts/bench

#h make rehearse-send
#h	Write the mails of the series to build/send with b4 and inspect them, as
#h	they will be sent by whom git has as user.name and user.email. Nothing is
#h	sent; scripts/send --send does that.
#h	  SELFTESTS=1   with the patch of the tests
#h	  VERSION=2     as version 2, which needs
#h	  PREVIOUS=REV  the version before: a revision, or a directory of patches
#h	  CHANGES=FILE  what has changed, if the cover letter does not say it
rehearse-send:
	@scripts/send $(if $(SELFTESTS),-s) $(if $(VERSION),-v '$(VERSION)') \
		$(if $(PREVIOUS),-p '$(PREVIOUS)') $(if $(CHANGES),-c '$(CHANGES)')

#h make boottime
#h	Time until the root's init runs, with and without the hypervisor.
boottime:
	@scripts/boottime

#h make clean
#h	Remove the builds (or O=), keep downloads and kernel trees.
clean:
	rm -rf '$(or $(O),$(or $(CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mshv-nested-root)/build)'

.PHONY: help kselftest check checkpatches mutants bench boottime clean rehearse-send package check-fresh
