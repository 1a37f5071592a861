"""Pure functions from stored runs to what is said of them: values in, values out, no files, no clock."""
