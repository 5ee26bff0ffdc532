package schema

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/sql"
)

// Version is the version of the schema in this package.
const Version = 3

// Statements returns the schema of a dialect as SQL statements without final semicolons, in
// the order in which they have to run. Each may run again. The dialect is "mysql", also for
// MariaDB, "postgres" or "sqlite".
func Statements(dialect string) ([]string, error) {
	text, err := script(dialect)
	if err != nil {
		return nil, fmt.Errorf("schema: statements: %w", err)
	}
	return split(text), nil
}

// split separates the statements of a script.
func split(text string) (statements []string) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if trimmed := strings.TrimSpace(line); b.Len() == 0 && (trimmed == "" || strings.HasPrefix(trimmed, "--")) {
			continue
		}
		b.WriteString(line)
		if body, found := strings.CutSuffix(strings.TrimRight(b.String(), "\n"), ";"); found {
			statements = append(statements, body)
			b.Reset()
		}
	}
	return statements
}

// Script returns the schema of a dialect as one commented SQL script: the first migration
// of a team that runs its own. [Upgrade] has the later ones.
func Script(dialect string) (string, error) {
	text, err := script(dialect)
	if err != nil {
		return "", fmt.Errorf("schema: script: %w", err)
	}
	return text, nil
}

func script(dialect string) (string, error) {
	text, err := sql.Files.ReadFile(dialect + ".sql")
	if err != nil {
		return "", fmt.Errorf("there is no schema for the dialect %q: use mysql, postgres or sqlite", dialect)
	}
	return string(text), nil
}

// Upgrade returns the script that upgrades the schema from an older version to this one,
// for a team that runs its own migrations. It is empty if there is nothing to do.
func Upgrade(dialect string, from int) (string, error) {
	text, err := upgrade(dialect, from)
	if err != nil {
		return "", fmt.Errorf("schema: upgrade: %w", err)
	}
	return text, nil
}

func upgrade(dialect string, from int) (string, error) {
	if _, err := script(dialect); err != nil {
		return "", err
	}
	if from < 1 || from > Version {
		return "", fmt.Errorf("the schema cannot be upgraded from version %d to %d: versions 1 to %d are known", from, Version, Version)
	}
	var all strings.Builder
	for version := from + 1; version <= Version; version++ {
		text, err := sql.Files.ReadFile(fmt.Sprintf("upgrade/%s_%d.sql", dialect, version))
		if err != nil {
			return "", fmt.Errorf("version %d: %w", version, err)
		}
		all.Write(text)
	}
	return all.String(), nil
}

// dialectOf returns the dialect of db, and an error if there is no schema for it.
func dialectOf(db *gorm.DB) (string, error) {
	if db == nil || db.Config == nil || db.Dialector == nil {
		return "", fmt.Errorf("the database is nil: open it with gorm.Open")
	}
	dialect := db.Dialector.Name()
	_, err := script(dialect)
	return dialect, err
}

// table is a table of the schema.
type table struct {
	name        string
	columns     []string
	constraints []constraint
}

var (
	createTable = regexp.MustCompile(`^CREATE TABLE IF NOT EXISTS (\w+) \(`)
	columnLine  = regexp.MustCompile(`^  ([a-z]\w*) `)
)

// tables reads the tables, columns and constraints from the schema itself, so that there is
// no second list.
func tables(dialect string) ([]table, error) {
	text, err := script(dialect)
	if err != nil {
		return nil, err
	}
	var all []table
	for _, statement := range split(text) {
		head := createTable.FindStringSubmatch(statement)
		if head == nil {
			if name, c, found := indexOf(statement); found {
				i := slices.IndexFunc(all, func(t table) bool { return t.name == name })
				all[i].constraints = append(all[i].constraints, c)
			}
			continue
		}
		t := table{name: head[1]}
		for line := range strings.Lines(statement) {
			if column := columnLine.FindStringSubmatch(line); column != nil {
				t.columns = append(t.columns, column[1])
			}
			if c, found := constraintOf(t.name, line); found {
				t.constraints = append(t.constraints, c)
			}
		}
		all = append(all, t)
	}
	return all, nil
}
