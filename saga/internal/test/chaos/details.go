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

// details is everything that is recorded about a transaction, for people.
func (r *run) details(ctx context.Context, gid string) string {
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
	if h := r.histories.byGID[gid]; h != nil {
		h.mu.Lock()
		part("client", append([]string{h.summary()}, h.lines...), nil)
		part("faults meanwhile", r.nemesis.between(h.began, h.latest), nil)
		h.mu.Unlock()
	}
	for _, table := range []struct{ in, name, order string }{
		{engineDB, "saga_transactions", "gid"}, {engineDB, "saga_branches", "branch_id"}, {engineDB, "saga_barrier", "branch_id"},
		{engineDB, "saga_attempts", "failed_at"}, {engineDB, "saga_outbox", "branch_id"}, {engineDB, "branch_effects", "id"},
		{serviceDB, "saga_barrier", "branch_id"}, {serviceDB, "branch_effects", "id"},
		{hostDB, "saga_barrier", "branch_id"}, {hostDB, "branch_effects", "id"},
	} {
		name := table.in + "." + table.name
		lines, err := dump(ctx, r.engineDB, "SELECT * FROM "+name+" WHERE gid = ? ORDER BY "+table.order, gid)
		part(name, lines, err)
	}
	for _, table := range []string{"saga_inbox", "handled"} {
		name := serviceDB + "." + table
		lines, err := dump(ctx, r.engineDB, "SELECT * FROM "+name+" WHERE message_id LIKE CONCAT(?, '/%')", gid)
		part(name, lines, err)
	}
	for _, key := range r.gateway.keys() {
		if strings.HasPrefix(key, gid+"/") {
			part("gateway "+key, r.gateway.payment(key).events, nil)
		}
	}
	for _, w := range r.programs() {
		lines, err := mentions(w.output, gid)
		part("log lines of "+w.name, lines, err)
	}
	return text.String()
}

// summary is what the client asked for and how it went, in words.
func (h *history) summary() string {
	text := fmt.Sprintf("ordered %+v", h.order)
	if h.refused != "" {
		text += ", of which " + h.refused + " is always refused"
	}
	if h.abandoned {
		text += "; abandoned"
	}
	return fmt.Sprintf("%s; answers: %v", text, h.counts)
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

// mentions are the lines of a worker's output in which the gid is a whole word.
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
