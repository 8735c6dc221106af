# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2119,SC2120
#
# What the scripts share: messages, cache and lock, hashes, git, kernel trees.
# Sourced, never run.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
: "${CACHE:=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/mshv-nested-root}"
CACHE=$(realpath -m "$CACHE")
JOBS=$(nproc)
export LC_ALL=C.UTF-8

# Commits that scripts make have a fixed committer, so their ids depend on
# nothing but their content; the user's git configuration does not matter.
export GIT_COMMITTER_NAME=mshv GIT_COMMITTER_EMAIL=mshv@localhost
kgit() {
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_OPTIONAL_LOCKS=0 \
		git -c safe.directory='*' -c advice.detachedHead=false \
		-c core.hooksPath=/dev/null -c gc.auto=0 -c maintenance.auto=false "$@"
}

die() {
	echo "mshv: $*" >&2
	exit 1
}

# The release that everything is made for is data: scripts/bases/v6.18 unless
# BASE= names another file there
: "${BASE:=v6.18}"
[ -r "$TOP/scripts/bases/$BASE" ] ||
	die "BASE=$BASE is not known; there are $(find "$TOP/scripts/bases" -type f -printf '%f ')"
# shellcheck source=scripts/bases/v6.18
. "$TOP/scripts/bases/$BASE"
SERIES=${BASE_SERIES:+$TOP/$BASE_SERIES} PATCHES=${BASE_PATCHES:+$TOP/$BASE_PATCHES}

say() {
	printf '== [%3ds] %s\n' "$SECONDS" "$*" >&2
}

# Prints the comment a script opens with
usage() { # [STATUS]
	sed -n '/^# SPDX/d; 2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
	exit "${1:-0}"
}

# Only one run may use a cache; a script that was started by one that holds
# the lock must not ask for it again.
take_lock() {
	[ "${MSHV_LOCK:-}" = "$CACHE" ] && return
	mkdir -p "$CACHE" 2>/dev/null || die "cannot create $CACHE; set CACHE= to a directory that can be written"
	{ exec 9>"$CACHE/lock"; } 2>/dev/null || die "cannot write to $CACHE; set CACHE= to another directory"
	flock -n 9 || die "another run uses $CACHE; wait for it to end or set CACHE= to another directory"
	export MSHV_LOCK=$CACHE
	rm -rf "$CACHE"/tmp.*
}

# logged WHAT LOG COMMAND...: runs a command silently; when it fails says so
# in one line, a full disk by name.
logged() {
	local what=$1 log=$2
	shift 2
	mkdir -p "$(dirname "$log")" 2>/dev/null || true
	if "$@" >"$log" 2>&1 </dev/null; then
		return 0
	fi
	failed "$what" "$log"
}

failed() {
	local what=$1 log=$2 dir line
	dir=$(dirname "$log")
	while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
	if grep -qs 'No space left on device\|Disk quota exceeded' "$log" || ! disk_has "$dir" 1; then
		die "$what failed: the disk that holds $dir is full; make room or set CACHE= and O= to another disk"
	fi
	line=$(grep -a -m1 -E 'error:|Error |^E: |fatal:|\*\*\*' "$log" || tail -n1 "$log") 2>/dev/null || true
	die "$what failed: ${line:-no output}; see $log"
}

# disk_has DIR MIB: is that much room left?
disk_has() {
	[ "$(df -Pm "$1" | awk 'NR == 2 { print $4 }')" -ge "$2" ]
}

# Hash of the names and contents of files and directories
hash_of() {
	find "$@" -type f -print0 | sort -z | xargs -0r sha256sum | sha256sum | cut -c1-16
}

# Names of the patches of the series, in order
series() {
	[ -n "$PATCHES" ] || return 0
	if [ -e "$SERIES" ]; then
		sed 's/#.*//; s/[[:space:]]*$//; /^$/d' "$SERIES"
	else
		find "$PATCHES" -name '[0-9]*.patch' ! -name '0000-*' -printf '%f\n' 2>/dev/null | sort
	fi
}

# patch_count NUMBER: what -n is given
patch_count() {
	[[ $1 =~ ^[0-9]{1,4}$ ]] || die "-n $1 is no number of patches; the series has $(series | wc -l)"
	echo "$1"
}

# Why tests skip at kernels without the first patch, the second and so on: of find_out()
LACKS=("a kernel that refuses impossible GFN ranges"
	"a kernel that reports failed region hypercalls" "batched unmap"
	"unmap in large units" "movable regions"
	"populated pages mapped at creation" "the fast path for no-access")
lacks_are_known() {
	local reason
	for reason in "${LACKS[@]}"; do
		grep -qF "\"needs: $reason\"" "$TOP/selftests/mshv/mshv_util.c" ||
			die "no test skips any more for '$reason'; mend LACKS in scripts/lib.sh"
	done
}

# skips_without COUNT: prints a regex of why tests skip at kernels that lack one of the
# first COUNT patches. Where these are applied nothing may skip for it
skips_without() {
	lacks_are_known
	printf 'needs: (%s)' "$(IFS='|'; echo "${LACKS[*]:0:$1}")"
}

# skips_but_for COUNT: the same of everything that our kernels with the first COUNT
# patches, and the VM they run in, do not lack
skips_but_for() {
	local may=("private memory" "memory (of a file|with pages of 4 KiB)"
		"memory that (can be (reclaimed|swapped)|cannot be read again|is balanced)"
		"huge pages( that can be split)?" "[0-9]+ huge pages"
		"[0-9]+ CPUs" "[0-9] GiB of memory at most.*" "the root scheduler"
		"a kernel that pins guest memory" "a kernel that does not take NOOP for SET"
		"large units over 4K entries" "dirty bits that survive a new mapping"
		"${LACKS[@]:$1}"
		# What depends on how busy and how fragmented the machine is
		"KSM that merges .*" "MADV_COLLAPSE that succeeds" "(a|two) free huge pages?"
		"swap with space" "a memory block that can be taken off line" memory
		"reclaim that is faster than the OOM killer"
		"the right to lock all memory, within two minutes")
	lacks_are_known
	# It takes two where part of it is in large units
	[ "$1" -ge 4 ] || may+=("an unmap in more than one hypercall")
	printf 'SKIP (?!(needs: (%s)|nothing can be done about it|SCRIPT is run instead)$)' "$(IFS='|'; echo "${may[*]}")"
}

# Files of the first COUNT, or of all
series_files() { # [COUNT]
	series | head -n "${1:-1000}" | sed "s,^,$PATCHES/,"
}

# kernel_version MAKEFILE: VERSION.PATCHLEVEL.SUBLEVEL in that of a kernel tree, nothing
# for another
kernel_version() {
	awk -F ' = ' '$1 == "VERSION" { v = $2 } $1 == "PATCHLEVEL" { p = $2 } $1 == "SUBLEVEL" { s = $2 }
		/^KERNELVERSION/ { print v "." p "." s; exit }' "$1" 2>/dev/null || true
}

# is_base VERSION: is it the base's, or a stable release of that?
is_base() {
	[[ $1. == "$BASE_VERSION".* ]]
}

# tree_reset TREE COMMIT: exactly the files of a commit, times of unchanged
# files kept so that builds stay incremental
tree_reset() {
	rm -f "$1/.git/index.lock"
	rm -rf "$1/.git/rebase-apply"
	kgit -C "$1" checkout -q -f --detach "$2" && kgit -C "$1" clean -qfdx
}

# tree_link TREE REPO COMMIT: a new tree that borrows the objects of REPO
# and holds COMMIT, tagged mshv-base
tree_link() {
	local objects shallow
	objects=$(kgit -C "$2" rev-parse --path-format=absolute --git-path objects)
	shallow=$(kgit -C "$2" rev-parse --path-format=absolute --git-path shallow)
	kgit init -q --template= "$1"
	mkdir -p "$1/.git/objects/info"
	echo "$objects" >"$1/.git/objects/info/alternates"
	if [ -e "$shallow" ]; then cp "$shallow" "$1/.git/shallow"; fi
	kgit -C "$1" tag -f mshv-base "$3" >/dev/null
	tree_reset "$1" mshv-base
}

# tree_new TREE REPO COMMIT: as tree_link, but keeps the files of a tree of the
# same commit, which is faster, and none of its branches
tree_new() {
	if [ "$(kgit -C "$1" rev-parse -q --verify 'mshv-base^{commit}' 2>/dev/null)" = "$3" ] &&
			tree_reset "$1" mshv-base; then
		kgit -C "$1" for-each-ref --format='delete %(refname)' refs/heads refs/tags/sent |
			kgit -C "$1" update-ref --stdin
	else
		rm -rf "$1"
		mkdir -p "$(dirname "$1")"
		tree_link "$@"
	fi
}

# tree_am [-s] TREE PATCH...: git am; one line and an untouched HEAD on failure.
# -s signs off by the committer, now.
tree_am() {
	local tree patch log how=--committer-date-is-author-date
	if [ "$1" = -s ]; then
		how=-s
		shift
	fi
	tree=$1
	shift
	for patch; do
		log=$tree/.git/mshv-am.log
		if ! kgit -C "$tree" am -q $how "$patch" >"$log" 2>&1 </dev/null; then
			kgit -C "$tree" am --abort >/dev/null 2>&1 || true
			if grep -q 'No space left' "$log"; then failed "git am" "$log"; fi
			die "${patch#"$TOP"/} does not apply on $(kgit -C "$tree" log -1 --format='%h (%s)'); rebase it with scripts/apply and scripts/refresh, details in $log"
		fi
	done
}

# suite_into TREE: selftests/mshv and its line in TARGETS
suite_into() {
	local tests=$1/tools/testing/selftests
	cp -rp "$TOP/selftests/mshv" "$tests/"
	# Alphabetical: after the last target that sorts before it
	awk '/^TARGETS \+= / && $3 > "mshv" && !done { print "TARGETS += mshv"; done = 1 } { print }' \
		"$tests/Makefile" >"$tests/Makefile.new"
	mv "$tests/Makefile.new" "$tests/Makefile"
}

# maintainers_into TREE: the lines of MAINTAINERS.snippet, in their places in
# the entry that its first line names
maintainers_into() {
	LC_ALL=C awk -v snippet="$TOP/MAINTAINERS.snippet" '
		BEGIN {
			getline entry <snippet
			while ((getline line <snippet) > 0) add[++n] = line
		}
		inside && next_line <= n && ($0 == "" || (/^F:/ && $0 > add[next_line])) {
			while (next_line <= n && ($0 == "" || add[next_line] < $0))
				print add[next_line++]
		}
		$0 == "" { inside = 0 }
		$0 == entry { inside = 1; next_line = 1; found = 1 }
		{ print }
		END { exit !found }' "$1/MAINTAINERS" >"$1/MAINTAINERS.new" || {
		rm -f "$1/MAINTAINERS.new"
		die "MAINTAINERS of the base has no entry $(head -n1 "$TOP/MAINTAINERS.snippet"); correct MAINTAINERS.snippet"
	}
	mv "$1/MAINTAINERS.new" "$1/MAINTAINERS"
}

# What checkpatch cannot know here:
#  FILE_PATH_CHANGES, UNKNOWN_COMMIT_ID, BAD_FIXES_TAG: the tree has no history
#  CONFIG_DESCRIPTION, SPDX_LICENSE_TAG in fragments: not Kconfig files
#  NEW_TYPEDEFS, VOLATILE, AVOID_EXTERNS: there is no kernel below bare-metal
#  programs to take types, READ_ONCE() or linker symbols from
#  PREFER_DEFINED_ATTRIBUTE_MACRO, CAMELCASE: somebody has to define them
#  BRACES, MACRO_WITH_FLOW_CONTROL, COMPLEX_MACRO: the kselftest harness ends
#  EXPECT_*() in a block of its own, and SKIP() returns
#  LINE_SPACING: a register variable with asm() is a declaration
#  SPDX_LICENSE_TAG: the check spdx looks at it
#  SPACING, FUNCTION_ARGUMENTS: misread FIXTURE_DATA(x) *self and attributes
#  EMBEDDED_FUNCTION_NAME: instructions in asm() are named like their wrappers
#  UNSPECIFIED_INT: unsigned __int128
#  PARENTHESIS_ALIGNMENT: guest code in the arguments of a macro
#  BIT_MACRO: there is none in user space and in bare-metal programs
#  PREFER_PR_LEVEL and friends: no printk in user space
#  OPEN_ENDED_LINE: in the series, as trace events are written
CHECKPATCH_IGNORE=FILE_PATH_CHANGES,UNKNOWN_COMMIT_ID,BAD_FIXES_TAG
CHECKPATCH_IGNORE_PROGRAMS=NEW_TYPEDEFS,VOLATILE,AVOID_EXTERNS,PREFER_PR_LEVEL,CONST_STRUCT,SPLIT_STRING,MACRO_ARG_REUSE,PREFER_DEFINED_ATTRIBUTE_MACRO,CAMELCASE,SPDX_LICENSE_TAG,BRACES,MACRO_WITH_FLOW_CONTROL,COMPLEX_MACRO,LINE_SPACING,SPACING,EMBEDDED_FUNCTION_NAME,UNSPECIFIED_INT,PARENTHESIS_ALIGNMENT,BIT_MACRO,FUNCTION_ARGUMENTS
