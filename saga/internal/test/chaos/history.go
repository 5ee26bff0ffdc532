package chaos

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"slices"
	"strings"
)

// history is all that is written down about a transaction, for people.
func (r *run) history(ctx context.Context, gid string) string {
	var text strings.Builder
	part := func(title string, lines []string, err error) {
		if len(lines) == 0 && err == nil {
			return
		}
		fmt.Fprintf(&text, "  %s\n", title)
		for _, line := range lines {
			fmt.Fprintf(&text, "    %s\n", line)
		}
		if err != nil {
			fmt.Fprintf(&text, "    could not be read: %v\n", err)
		}
	}
	if s := r.told.stories[gid]; s != nil {
		s.mu.Lock()
		part("caller", append([]string{fmt.Sprintf("%s %+v hopeless=%t left=%t %v", s.manner, s.order, s.hopeless, s.left, s.counts)}, s.lines...), nil)
		part("faults meanwhile", r.storm.between(s.began, s.latest), nil)
		s.mu.Unlock()
	}
	for _, table := range []struct{ in, name, order string }{
		{home, "saga_transactions", "gid"}, {home, "saga_branches", "branch_id"}, {home, "saga_barrier", "branch_id"},
		{home, "saga_attempts", "failed_at"}, {home, "saga_outbox", "branch_id"}, {home, "notes", "id"},
		{away, "saga_barrier", "branch_id"}, {away, "notes", "id"},
	} {
		lines, err := dump(ctx, r.home, "SELECT * FROM "+table.in+"."+table.name+" WHERE gid = ? ORDER BY "+table.order, gid)
		part(table.name+" "+table.in, lines, err)
	}
	for _, name := range []string{"saga_inbox", "effects"} {
		lines, err := dump(ctx, r.home, "SELECT * FROM "+away+"."+name+" WHERE message_id LIKE CONCAT(?, '/%')", gid)
		part(name+" "+away, lines, err)
	}
	for _, key := range r.gateway.keys() {
		if strings.HasPrefix(key, gid+"/") {
			part("gateway "+key, r.gateway.payment(key).events, nil)
		}
	}
	for _, w := range r.workers {
		lines, err := mentions(w.output, gid)
		part(w.name, lines, err)
	}
	return text.String()
}

// dump reads rows as lines.
func dump(ctx context.Context, db *sql.DB, query string, arguments ...any) (lines []string, err error) {
	rows, err := db.QueryContext(ctx, query, arguments...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		var line strings.Builder
		for i, value := range values {
			if value.Valid && value.String != "" {
				fmt.Fprintf(&line, "%s=%.300s ", columns[i], value.String)
			}
		}
		lines = append(lines, line.String())
	}
	return lines, rows.Err()
}

// mentions are the lines of a worker's output that name the gid, as a whole
// word.
func mentions(file, gid string) (lines []string, err error) {
	output, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	scanner := bufio.NewScanner(bytes.NewReader(output))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() && len(lines) < 30 {
		words := strings.FieldsFunc(scanner.Text(), func(r rune) bool { return !strings.ContainsRune(gidCharacters, r) })
		if slices.Contains(words, gid) {
			lines = append(lines, fmt.Sprintf("%.500s", scanner.Text()))
		}
	}
	return lines, scanner.Err()
}

const gidCharacters = "abcdefghijklmnopqrstuvwxyz0123456789-"
