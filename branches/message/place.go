package message

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// placeText returns the text of a place in a list, with which a person asks for the next page.
// A place is a struct of texts and numbers.
func placeText(place any) string {
	encoded, err := json.Marshal(place)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(encoded)
}

// placeOf is the inverse of placeText. The error wraps ErrInvalid.
func placeOf[Place any](text string) (place Place, err error) {
	encoded, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(encoded, &place)
	}
	if err != nil {
		return place, fmt.Errorf("%w: the text %.40q is not the end of a page: start again without it", ErrInvalid, text)
	}
	return place, nil
}
