package schema

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"gorm.io/gorm"
)

// constraint is a primary key, a check constraint or an index of the schema.
type constraint struct {
	name string // for people
	find string // a pattern of its line in described
	mend string // the statement that adds it; empty if there is none
}

var (
	primaryLine = regexp.MustCompile(`^  (PRIMARY KEY \(.*\)),?$`)
	checkLine   = regexp.MustCompile(`^  (CONSTRAINT (\w+) CHECK \(.*\)),?$`)
	keyLine     = regexp.MustCompile(`^  KEY (\w+ \(.*\)),?$`)
	createIndex = regexp.MustCompile(`^CREATE INDEX IF NOT EXISTS (\w+) ON (\w+) (\(.*\))$`)
)

// constraintOf reads a line of a declared table.
func constraintOf(table, line string) (c constraint, found bool) {
	line = strings.TrimRight(line, "\n")
	alter := "ALTER TABLE " + table + " ADD "
	if key := primaryLine.FindStringSubmatch(line); key != nil {
		return constraint{"the primary key", "^" + regexp.QuoteMeta(plain(key[1])), alter + key[1]}, true
	}
	if check := checkLine.FindStringSubmatch(line); check != nil {
		return constraint{"the constraint " + check[2], "^constraint " + check[2] + ` check\b`, alter + check[1]}, true
	}
	if key := keyLine.FindStringSubmatch(line); key != nil {
		name, _, _ := strings.Cut(key[1], " ")
		return constraint{"the index " + name, "^key " + regexp.QuoteMeta(plain(key[1])), alter + "KEY " + key[1]}, true
	}
	return constraint{}, false
}

// indexOf reads a statement that creates an index.
func indexOf(statement string) (table string, c constraint, found bool) {
	index := createIndex.FindStringSubmatch(statement)
	if index == nil {
		return "", c, false
	}
	return index[2], constraint{"the index " + index[1], "^key " + regexp.QuoteMeta(plain(index[1]+" "+index[3])), statement}, true
}

// plain returns a definition in lower case, without quotes.
func plain(definition string) string {
	return strings.ToLower(strings.NewReplacer("`", "", `"`, "", ", ", ",", "IF NOT EXISTS ", "").Replace(strings.TrimSpace(definition)))
}

// checkConstraints returns an error with the first constraint that a table lacks, and the
// statement that adds it. It compares names and columns with the catalog of the database,
// not conditions.
func checkConstraints(ctx context.Context, db *gorm.DB, t table) error {
	if len(t.constraints) == 0 {
		return nil
	}
	lines, err := described(ctx, db, t.name)
	if err != nil {
		return fmt.Errorf("read the constraints of the table %s: %w", t.name, err)
	}
	for _, c := range t.constraints {
		pattern := regexp.MustCompile(c.find)
		there := false
		for _, line := range lines {
			there = there || pattern.MatchString(line) && !strings.Contains(line, "not enforced")
		}
		if there {
			continue
		}
		mend := "add it with: " + c.mend
		if db.Dialector.Name() == "sqlite" && !strings.HasPrefix(c.mend, "CREATE") {
			mend = "SQLite cannot add it: create the table anew with its statement of schema.Script, and copy the rows"
		}
		return fmt.Errorf("table %s lacks %s; %s: %w", t.name, c.name, mend, ErrNotMigrated)
	}
	return nil
}

// described returns a line for each constraint of a table, in the form of
// constraint.find.
func described(ctx context.Context, db *gorm.DB, table string) ([]string, error) {
	pool := db.Statement.ConnPool
	switch db.Dialector.Name() {
	case "mysql":
		var name, create string
		// This needs no more rights than a SELECT, unlike information_schema.
		if err := one(ctx, pool, "SHOW CREATE TABLE "+table, &name, &create); err != nil {
			return nil, err
		}
		var lines []string
		for line := range strings.Lines(create) {
			lines = append(lines, plain(line))
		}
		return lines, nil
	case "postgres":
		return list(ctx, pool, strings.ReplaceAll(`
			SELECT CASE contype WHEN 'c' THEN 'constraint ' || conname || ' check ' || CASE WHEN convalidated THEN '' ELSE 'not enforced' END
				ELSE pg_get_constraintdef(oid) END
			FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype IN ('c', 'p')
			UNION ALL
			SELECT 'key ' || c.relname || ' (' || (SELECT string_agg(pg_get_indexdef(i.indexrelid, k, true), ',' ORDER BY k) FROM generate_series(1, i.indnkeyatts) k) || ')'
			FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
			WHERE i.indrelid = '{table}'::regclass AND i.indisvalid AND i.indpred IS NULL`, "{table}", table))
	default:
		lines, err := list(ctx, pool, strings.ReplaceAll(`
			SELECT 'primary key (' || (SELECT group_concat(name, ',') FROM (SELECT name FROM pragma_table_info('{table}') WHERE pk > 0 ORDER BY pk)) || ')'
			UNION ALL
			SELECT 'key ' || l.name || ' (' || (SELECT group_concat(name, ',') FROM (SELECT name FROM pragma_index_info(l.name) ORDER BY seqno)) || ')'
			FROM pragma_index_list('{table}') l WHERE l.origin = 'c' AND l.partial = 0`, "{table}", table))
		if err != nil {
			return nil, err
		}
		var create string
		if err := one(ctx, pool, "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = '"+table+"'", &create); err != nil {
			return nil, err
		}
		for _, check := range regexp.MustCompile(`(?i)constraint\s+["'\x60\[]?(\w+)["'\x60\]]?\s+check\s*\(`).FindAllStringSubmatch(create, -1) {
			lines = append(lines, "constraint "+strings.ToLower(check[1])+" check ")
		}
		return lines, nil
	}
}

// list returns the texts of a query, each by plain.
func list(ctx context.Context, pool gorm.ConnPool, query string) (all []string, err error) {
	rows, err := pool.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text *string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		if text != nil {
			all = append(all, plain(*text))
		}
	}
	return all, rows.Err()
}
