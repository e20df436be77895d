"""One file for each family of networks that takes a stem for small images and a width; `FAMILY` is its builder.

With these stems, 32x32 images give maps of 32, 16, 8 and 4 pixels, as in He et al. 2016, section 4.2, for ResNets.
Transformers and mixers see 8x8 patches (Swin: 16x16, halved three times).
"""
