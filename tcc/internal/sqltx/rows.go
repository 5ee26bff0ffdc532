package sqltx

import (
	"database/sql"
	"database/sql/driver"
	"io"
	"math"
	"reflect"
)

// rows presents the rows of the pool as the rows of a driver.
type rows struct {
	*sql.Rows
	columns []string
	types   []*sql.ColumnType // read at first use
	values  []any
	scan    []any // pointers to values
}

var _ interface {
	driver.RowsNextResultSet
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypeLength
	driver.RowsColumnTypeNullable
	driver.RowsColumnTypePrecisionScale
	driver.RowsColumnTypeScanType
} = (*rows)(nil)

func newRows(found *sql.Rows, columns []string) *rows {
	r := &rows{Rows: found, columns: columns, values: make([]any, len(columns)), scan: make([]any, len(columns))}
	for i := range r.values {
		r.scan[i] = &r.values[i]
	}
	return r
}

func (r *rows) Columns() []string { return r.columns }

func (r *rows) Next(dest []driver.Value) error {
	if !r.Rows.Next() {
		if err := r.Rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	if err := r.Rows.Scan(r.scan...); err != nil {
		return err
	}
	for i, v := range r.values {
		dest[i] = v
	}
	return nil
}

// HasNextResultSet reports whether there may be another result set. Without one, the
// rows close themselves at their end.
func (r *rows) HasNextResultSet() bool {
	_, err := r.Rows.Columns()
	return err == nil
}

func (r *rows) NextResultSet() error {
	if !r.Rows.NextResultSet() {
		if err := r.Rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	columns, err := r.Rows.Columns()
	if err != nil {
		return err
	}
	*r = *newRows(r.Rows, columns)
	return nil
}

// column returns the type of a column, or nil if the pool does not return it.
func (r *rows) column(i int) *sql.ColumnType {
	if r.types == nil {
		r.types, _ = r.Rows.ColumnTypes()
	}
	if i >= len(r.types) {
		return nil
	}
	return r.types[i]
}

func (r *rows) ColumnTypeDatabaseTypeName(i int) string {
	if c := r.column(i); c != nil {
		return c.DatabaseTypeName()
	}
	return ""
}

func (r *rows) ColumnTypeScanType(i int) reflect.Type {
	if c := r.column(i); c != nil {
		return c.ScanType()
	}
	return reflect.TypeFor[any]()
}

func (r *rows) ColumnTypeNullable(i int) (nullable, ok bool) {
	if c := r.column(i); c != nil {
		return c.Nullable()
	}
	return false, false
}

func (r *rows) ColumnTypeLength(i int) (length int64, ok bool) {
	if c := r.column(i); c != nil {
		return c.Length()
	}
	return 0, false
}

func (r *rows) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	if c := r.column(i); c != nil {
		return c.DecimalSize()
	}
	return math.MaxInt64, math.MaxInt64, false
}
