package simulation

import (
	"database/sql/driver"
	"io"
)

// answered are rows that have left the database, so that reading them makes no
// further call.
type answered struct {
	columns []string
	rows    [][]driver.Value
}

func readAll(rows driver.Rows) (*answered, error) {
	defer rows.Close()
	a := &answered{columns: rows.Columns()}
	for {
		row := make([]driver.Value, len(a.columns))
		if err := rows.Next(row); err == io.EOF {
			return a, nil
		} else if err != nil {
			return nil, err
		}
		a.rows = append(a.rows, row)
	}
}

func (a *answered) Columns() []string { return a.columns }
func (a *answered) Close() error      { return nil }

func (a *answered) Next(into []driver.Value) error {
	if len(a.rows) == 0 {
		return io.EOF
	}
	copy(into, a.rows[0])
	a.rows = a.rows[1:]
	return nil
}
