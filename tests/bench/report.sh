# report.sh: what the benchmarks source to keep their figures, print them as a table, and put it into the page.
# Figures are lines 'SERVER KEY VALUE'; a server or part that could not run has 'SERVER skipped|failed REASON'. Of several
# values for a key the largest counts, so that a disturbed round harms neither side.
# A benchmark describes its rows as 'KEY|LABEL|UNIT|KEY OF A REFERENCE'.
# shellcheck shell=bash

figure() { echo "$*" >>"$figures"; }

# all FILE OF ROWS PEER: the table as it is printed, ours, the peer's, the ratio, and the reference if rows name one.
print_table() {
	awk -v peer="$2" -v ours="${3:-ours}" -v reference="${4:-}" '
		function shown(value) { return value == "" ? "-" : value >= 100 ? sprintf("%.0f", value) : sprintf("%.2f", value) }
		BEGIN { FS = " " }
		FNR == NR { if ($2 != "skipped" && $2 != "failed" && (!(($1, $2) in best) || $3 > best[$1, $2])) best[$1, $2] = $3 + 0; next }
		FNR == 1 { printf "| %-44s | %-12s | %10s | %10s | %6s |", "", "unit", ours, peer, "ratio"
			printf reference == "" ? "\n" : " %12s |\n", reference
			printf "|%s|%s|%s:|%s:|%s:|", dashes(46), dashes(14), dashes(11), dashes(11), dashes(7)
			printf reference == "" ? "\n" : "%s:|\n", dashes(13) }
		{ split($0, row, "|"); mine = best["ours", row[1]]; theirs = best["peer", row[1]]
		  ratio = mine != "" && theirs > 0 ? sprintf("%.2f", mine / theirs) : "-"
		  printf "| %-44s | %-12s | %10s | %10s | %6s |", row[2], row[3], shown(mine), shown(theirs), ratio
		  printf reference == "" ? "\n" : " %12s |\n", row[4] == "" ? "" : shown(best["wire", row[4]]) }
		function dashes(count,   line) { while (count-- > 0) line = line "-"; return line }
	' "$figures" "$1"
}

# print_ratios NAME ROWS: the last line, each key that both servers have a figure for.
print_ratios() {
	awk -v name="$1" '
		FNR == NR { if ($2 != "skipped" && $2 != "failed" && (!(($1, $2) in best) || $3 > best[$1, $2])) best[$1, $2] = $3 + 0; next }
		{ split($0, row, "|"); if (best["ours", row[1]] != "" && best["peer", row[1]] > 0) line = line " " row[1] "=" sprintf("%.2f", best["ours", row[1]] / best["peer", row[1]]) }
		END { print "bench " name ":" line }
	' "$figures" "$2"
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
