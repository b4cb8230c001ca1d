# report.sh: what the benchmarks source to keep their figures, print them as a table, and put it into the page.
# Figures are lines 'SERVER KEY VALUE'; a server or part that could not run has 'SERVER skipped|failed REASON'. Of several
# values for a key the best counts, so that a disturbed round harms neither side: the largest, of times and memory the least.
# A benchmark describes its rows as 'KEY|LABEL|UNIT|KEY OF A REFERENCE|KEY OF THE PEER', the last where it is another.
# shellcheck shell=bash

figure() { echo "$*" >>"$figures"; }

# best_figures ROWS: the one that counts of each server's values for a key.
best_figures() {
	awk '
		FNR == NR { split($0, row, "|"); small[row[1]] = row[3] == "us" || row[3] == "KiB"; next }
		$2 == "skipped" || $2 == "failed" { next }
		{ name = $1 " " $2; value = $3 + 0 }
		!(name in best) || (small[$2] ? value < best[name] : value > best[name]) { best[name] = value }
		END { for (name in best) print name, best[name] }
	' "$1" "$figures"
}

# print_table ROWS PEER [OURS [REFERENCE]]: ours, the peer's, the ratio, and the reference if rows name one.
print_table() {
	best_figures "$1" | awk -v peer="$2" -v ours="${3:-ours}" -v reference="${4:-}" '
		function shown(value) { return value == "" ? "-" : value >= 100 ? sprintf("%.0f", value) : sprintf("%.2f", value) }
		FNR == NR { best[$1, $2] = $3; next }
		FNR == 1 { printf "| %-44s | %-12s | %10s | %10s | %6s |", "", "unit", ours, peer, "ratio"
			printf reference == "" ? "\n" : " %12s |\n", reference
			printf "|%s|%s|%s:|%s:|%s:|", dashes(46), dashes(14), dashes(11), dashes(11), dashes(7)
			printf reference == "" ? "\n" : "%s:|\n", dashes(13) }
		{ split($0, row, "|"); mine = best["ours", row[1]]; theirs = best["peer", row[5] == "" ? row[1] : row[5]]
		  ratio = mine != "" && theirs > 0 ? sprintf("%.2f", mine / theirs) : "-"
		  printf "| %-44s | %-12s | %10s | %10s | %6s |", row[2], row[3], shown(mine), shown(theirs), ratio
		  printf reference == "" ? "\n" : " %12s |\n", row[4] == "" ? "" : shown(best["wire", row[4]]) }
		function dashes(count,   line) { while (count-- > 0) line = line "-"; return line }
	' - "$1"
}

# print_ratios NAME ROWS: the last line, each key that both servers have a figure for.
print_ratios() {
	best_figures "$2" | awk -v name="$1" '
		FNR == NR { best[$1, $2] = $3; next }
		{ split($0, row, "|"); mine = best["ours", row[1]]; theirs = best["peer", row[5] == "" ? row[1] : row[5]]
		  if (mine != "" && theirs > 0) line = line " " row[1] "=" sprintf("%.2f", mine / theirs) }
		END { print "bench " name ":" line }
	' - "$2"
}

# Parts without figures, each reason once.
print_reasons() { awk '$2 == "skipped" || $2 == "failed" { server = $1; word = $2; $1 = $2 = ""; print word ": " server ":" $0 }' "$figures" | sort -u; }

has_failed() { grep -qE '^[a-z]+ failed ' "$figures"; }

# Whether a server has figures of its own; the relay's need none.
has_figures_of() {
	awk -v server="$1" '$1 == server && $2 !~ /^(skipped|failed|relay_)/ { found = 1 } END { exit !found }' "$figures"
}

# The machine and the moment, since figures mean nothing without them.
print_circumstances() {
	local processor commit
	processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
	commit=$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)
	echo "$(date -u '+%Y-%m-%d %H:%M') UTC, commit $commit, $(nproc) processors (${processor:-unknown}), Linux $(uname -r)."
	echo "Other work on the machine: load average $(cut -d' ' -f1 /proc/loadavg) at the end."
}

# put_into_page SECTION: standard input takes the place of what stands between the section's two markers.
put_into_page() {
	local page=$root/docs/performance.md new
	new=$(mktemp)
	awk -v begin="<!-- $1: begin -->" -v end="<!-- $1: end -->" '
		FNR == NR { text = text $0 "\n"; next }
		$0 == begin { print; printf "\n%s\n", text; dropping = 1 }
		$0 == end { dropping = 0 }
		!dropping && $0 != begin
	' - "$page" >"$new"
	cat "$new" >"$page"
	rm -f "$new"
}

# conclude NAME ROWS PEER OURS REFERENCE: prints all of it; the page changes only if our server has figures to show.
conclude() {
	local table
	table=$(print_table "$2" "$3" "$4" "${5:-}")
	printf '\n%s\n\n' "$table"
	print_reasons
	if has_figures_of ours; then
		{
			print_circumstances
			printf '\n%s\n' "$table"
			print_reasons | sed '1s/^/\n/'
			printf '\n`%s`\n' "$(last_line)"
		} | put_into_page "$1"
	fi
	last_line
	! has_failed
}
