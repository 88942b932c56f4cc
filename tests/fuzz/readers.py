"""Every reader of what comes from outside: a whole input for it, and how it is read."""

import annotation_readers
import model_readers
import option_readers
import picture_readers
import result_readers

READERS = (
    *picture_readers.READERS,
    *option_readers.READERS,
    *model_readers.READERS,
    *result_readers.READERS,
    *annotation_readers.READERS,
)
