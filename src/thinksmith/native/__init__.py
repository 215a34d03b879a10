"""What is written in C: `build.py` compiles it on first use, `lanes.h` holds the vectors that all of it computes with.

The sources lie with what they are part of: the decoder in `engines/local/native/`, the attention of packed rows in
`training/packed/native/`.
"""
