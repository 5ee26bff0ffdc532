package shape

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Check returns an error if the type cannot take data without loss. The error names the
// field. The data has to be valid JSON: call Check after json.Unmarshal. With
// allowUnknown, Check ignores fields that the type does not have.
func (s *Shape) Check(data []byte, allowUnknown bool) error {
	if !utf8.Valid(data) {
		return errors.New("the text is not UTF-8")
	}
	r := reader{data: data, allowUnknown: allowUnknown}
	if p := r.value(s); p != nil {
		return p
	}
	return nil
}

// problem says what is wrong, and in which field.
type problem struct {
	at   string
	what string
}

func (p *problem) Error() string {
	if p.at == "" {
		return p.what
	}
	return fmt.Sprintf("the field %q %s", p.at, p.what)
}

// in adds the name of the enclosing field, or an index, to the problem.
func (p *problem) in(name string) *problem {
	switch {
	case p.at == "":
		p.at = name
	case p.at[0] == '[':
		p.at = name + p.at
	default:
		p.at = name + "." + p.at
	}
	return p
}

// reader reads valid JSON.
type reader struct {
	data         []byte
	at           int
	allowUnknown bool
}

// next returns the next byte that is not a space.
func (r *reader) next() byte {
	for {
		switch c := r.data[r.at]; c {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return c
		}
	}
}

func (r *reader) value(s *Shape) *problem {
	switch r.next() {
	case 'n':
		r.at += len("null")
		if !s.nullable {
			return &problem{what: "is null, which the type cannot hold"}
		}
		return nil
	case '{':
		for s.form == pointer {
			s = s.elem
		}
		if s.form == object || s.form == dict {
			return r.object(s)
		}
	case '[':
		for s.form == pointer {
			s = s.elem
		}
		if s.form == list || s.form == array {
			return r.list(s)
		}
	case '"', 't', 'f':
	default:
		for s.form == pointer {
			s = s.elem
		}
		if s.form == float {
			return exact(string(r.literal()), s.bits)
		}
	}
	r.skip()
	return nil
}

func (r *reader) object(s *Shape) *problem {
	var seen uint64 // bits of the first 64 fields
	var seenNames map[string]bool
	r.at++
	for r.next() != '}' {
		if r.data[r.at] == ',' {
			r.at++
			r.next()
		}
		key := r.key()
		r.next()
		r.at++ // the colon
		inner, index, p := s.member(key, r.allowUnknown)
		if p != nil {
			return p
		}
		twice := false
		switch {
		case index >= 0 && index < 64:
			twice = seen&(1<<index) != 0
			seen |= 1 << index
		default:
			if seenNames == nil {
				seenNames = map[string]bool{}
			}
			twice, seenNames[string(key)] = seenNames[string(key)], true
		}
		if twice {
			return &problem{at: string(key), what: "is there twice"}
		}
		if inner == nil {
			r.skip()
		} else if p := r.value(inner); p != nil {
			return p.in(string(key))
		}
	}
	r.at++
	return nil
}

// member finds a member of an object by its key. It returns the shape of the member, or
// nil if the member is ignored. It also returns the index of the field, or -1 if there is
// no field.
func (s *Shape) member(key []byte, allowUnknown bool) (inner *Shape, index int, p *problem) {
	if s.form == dict {
		return s.elem, -1, nil
	}
	if f, ok := s.fields[string(key)]; ok {
		return f.shape, f.index, nil
	}
	for name := range s.fields {
		if strings.EqualFold(name, string(key)) {
			return nil, -1, &problem{at: string(key), what: fmt.Sprintf("is written %q in the type", name)}
		}
	}
	if allowUnknown {
		return nil, -1, nil
	}
	return nil, -1, &problem{at: string(key), what: "is not in the type"}
}

func (r *reader) list(s *Shape) *problem {
	r.at++
	n := 0
	for ; r.next() != ']'; n++ {
		if r.data[r.at] == ',' {
			r.at++
		}
		if p := r.value(s.elem); p != nil {
			return p.in(fmt.Sprintf("[%d]", n))
		}
	}
	r.at++
	if s.form == array && n != s.length {
		return &problem{what: fmt.Sprintf("has %d elements, the array of the type has %d", n, s.length)}
	}
	return nil
}

// key returns the text of the string at the current position.
func (r *reader) key() []byte {
	text := r.text()
	if bytes.IndexByte(text, '\\') < 0 {
		return text[1 : len(text)-1]
	}
	var key string
	_ = json.Unmarshal(text, &key) // it is valid
	return []byte(key)
}

// text skips a string and returns it with its quotes.
func (r *reader) text() []byte {
	from := r.at
	for r.at++; r.data[r.at] != '"'; r.at++ {
		if r.data[r.at] == '\\' {
			r.at++
		}
	}
	r.at++
	return r.data[from:r.at]
}

// literal skips a number or a word and returns it.
func (r *reader) literal() []byte {
	from := r.at
	for ; r.at < len(r.data); r.at++ {
		switch r.data[r.at] {
		case ',', ']', '}', ' ', '\t', '\r', '\n':
			return r.data[from:r.at]
		}
	}
	return r.data[from:]
}

// skip skips any value.
func (r *reader) skip() {
	for depth := 0; ; {
		switch r.next() {
		case '{', '[':
			depth++
			r.at++
		case '}', ']':
			depth--
			r.at++
		case ',', ':':
			r.at++
		case '"':
			r.text()
		default:
			r.literal()
		}
		if depth == 0 {
			return
		}
	}
}

// exact refuses a number that a float with these bits would round.
func exact(literal string, bits int) *problem {
	x, err := strconv.ParseFloat(literal, bits)
	if err != nil {
		return &problem{what: fmt.Sprintf("is %s, too large for a float%d", literal, bits)}
	}
	if written := strconv.FormatFloat(x, 'e', -1, bits); decimal(written) != decimal(literal) {
		return &problem{what: fmt.Sprintf("is %s, which a float%d rounds to %s", literal, bits, strconv.FormatFloat(x, 'g', -1, bits))}
	}
	return nil
}

// decimal returns a number in a canonical form: its digits without zeros at both ends,
// and a power of ten.
func decimal(literal string) string {
	mantissa, power, _ := strings.Cut(strings.ToLower(literal), "e")
	exponent, _ := strconv.Atoi(power) // 0 if there is none
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(mantissa, "-"), ".")
	exponent -= len(fraction)
	digits := strings.TrimLeft(whole+fraction, "0")
	short := strings.TrimRight(digits, "0")
	if short == "" {
		return "0"
	}
	return fmt.Sprintf("%t %s e%d", strings.HasPrefix(mantissa, "-"), short, exponent+len(digits)-len(short))
}
